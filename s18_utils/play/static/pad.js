// A pad to draw a digit on, with a mouse, a pen or a finger, and the digit as MNIST would have it.
import { drawPhoto, makeFilter, readPicture } from "./pictures.js";
import { followPointer, make, makeButton, makeFileButton, takeDrops } from "./tiles.js";

const DIGIT = 28;
const BOX = 20;
const GRAIN = 0.2; // of the strongest stroke: less is paper, not ink
const FAINT = 25; // and so is what differs by less than this, of 255
const PAD = 280; // pixels of the canvas, whatever its size on the screen
const PEN = PAD / 13;
const HINT = "Draw a digit, with a mouse, a pen or a finger.";
const BLANK = "there is no drawing in this picture: choose one of a digit, dark on light paper or light on dark";

/**
 * Resizes by a triangle filter, antialiased, along one axis of a row-major picture.
 * @param {Float32Array} from  rows × columns values.
 * @returns {Float32Array} rows × wanted values.
 */
function resizeColumns(from, rows, columns, wanted) {
  const to = new Float32Array(rows * wanted);
  makeFilter(columns, wanted).forEach(({ first, weights }, column) => {
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let step = 0; step < weights.length; step++) sum += weights[step] * from[row * columns + first + step];
      to[row * wanted + column] = sum;
    }
  });
  return to;
}

function transpose(from, rows, columns) {
  const to = new Float32Array(from.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) to[column * rows + row] = from[row * columns + column];
  return to;
}

/**
 * A drawing of one digit, centred and scaled as MNIST's were (LeCun et al. 1998, section III.A), for white strokes on
 * black.
 * @param {Float32Array} ink  rows × columns in 0–255, 0 where there is none.
 * @returns {Float32Array|null} 28 × 28 in [0, 1], the strongest stroke 1; null if there is no ink.
 */
function normaliseDigit(ink, rows, columns) {
  const least = Math.max(FAINT, GRAIN * ink.reduce((most, value) => Math.max(most, value), 0));
  let top = rows, bottom = -1, left = columns, right = -1;
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      if (ink[row * columns + column] > least) {
        top = Math.min(top, row);
        bottom = Math.max(bottom, row);
        left = Math.min(left, column);
        right = Math.max(right, column);
      }
  if (bottom < 0) return null;
  const height = bottom - top + 1, width = right - left + 1;
  const box = new Float32Array(height * width);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const value = ink[(top + row) * columns + left + column];
      if (value > least) box[row * width + column] = value;
    }

  const scale = BOX / Math.max(height, width);
  const high = Math.max(1, Math.round(height * scale)), wide = Math.max(1, Math.round(width * scale));
  const narrowed = resizeColumns(box, height, width, wide);
  const digit = transpose(resizeColumns(transpose(narrowed, height, wide), wide, height, high), wide, high);

  let most = 0, mass = 0, down = 0, across = 0;
  for (let row = 0; row < high; row++)
    for (let column = 0; column < wide; column++) {
      const value = digit[row * wide + column];
      most = Math.max(most, value);
      mass += value;
      down += value * row;
      across += value * column;
    }
  const corner = (centre, side) => Math.min(Math.max(Math.round(DIGIT / 2 - centre), 0), DIGIT - side);
  const firstRow = corner(down / mass, high), firstColumn = corner(across / mass, wide);
  const image = new Float32Array(DIGIT * DIGIT);
  for (let row = 0; row < high; row++)
    for (let column = 0; column < wide; column++)
      image[(firstRow + row) * DIGIT + firstColumn + column] = digit[row * wide + column] / most;
  return image;
}

/**
 * The ink of a picture that was fitted into the pad, white on black: what differs from the paper, which is the median.
 * @param {ImageData} picture  is changed.
 */
function extractInk(picture) {
  const { data } = picture, greys = new Float32Array(data.length / 4);
  for (let at = 0; at < greys.length; at++)
    greys[at] = 0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2];
  const paper = greys.slice().sort()[greys.length >> 1], sign = paper > 127 ? -1 : 1;
  greys.forEach((grey, at) => data.fill(sign * (grey - paper), 4 * at, 4 * at + 3)); // clamped to 0–255
}

/**
 * The pad with its buttons. `changed(image)` is called as one draws, with what `normaliseDigit` makes of it, `cleared()`
 * when the pad is empty again, and once more as a drawing begins on it.
 */
export class Pad {
  constructor(element, changed, cleared) {
    const words = "Draw a digit here, with a mouse, a pen or a finger";
    this.canvas = make("canvas", { className: "s18-pad", width: PAD, height: PAD, role: "img", "aria-label": words, data: "pad" });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    Object.assign(this, { changed, cleared, strokes: [], picture: null });
    const undo = makeButton("Undo", "undo", () => this.undo());
    const clear = makeButton("Clear", "clear", () => this.clear());
    const file = makeFileButton("A picture of one", "digit-file", (chosen) => this.receive(chosen));
    takeDrops(element, (dropped) => this.receive(dropped));
    this.words = make("p", { data: "pad-words", textContent: HINT, role: "status" });
    element.classList.add("s18-play");
    element.append(
      this.words, this.canvas,
      make("div", { className: "s18-controls" }, undo, clear, file),
    );
    followPointer(this.canvas, (place) => this.begin(place), (place) => this.extend(place));
    this.redraw();
  }

  /** Puts the digit in a picture, a dark pen on light paper or a light one on dark, on the pad. */
  async receive(file) {
    const reading = (this.reading = {}); // whatever is chosen or drawn while it is read comes instead
    try {
      const bitmap = await readPicture(file);
      if (reading !== this.reading) return bitmap.close();
      const scale = PAD / Math.max(bitmap.width, bitmap.height);
      const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
      const context = new OffscreenCanvas(width, height).getContext("2d");
      context.imageSmoothingQuality = "high";
      drawPhoto(context, bitmap, width, height);
      bitmap.close();
      this.clear();
      this.picture = context.getImageData(0, 0, width, height);
      extractInk(this.picture);
      this.redraw();
      this.tell();
    } catch (error) {
      if (reading === this.reading) this.words.textContent = error.message;
    }
  }

  /** Whether nothing was drawn or put on the pad. */
  get empty() {
    return !this.strokes.length && !this.picture;
  }

  begin(place) {
    this.reading = null;
    if (this.empty) this.cleared(); // what happened since the pad was cleared was about another image
    this.strokes.push([place]);
    this.extend(place);
  }

  extend(place) {
    this.strokes.at(-1).push(place);
    this.drawLine(...this.strokes.at(-1).slice(-2));
    this.tell();
  }

  undo() {
    if (!this.strokes.pop()) this.picture = null;
    if (this.empty) return this.clear();
    this.redraw();
    this.tell();
  }

  clear() {
    Object.assign(this, { strokes: [], picture: null, reading: null });
    this.words.textContent = HINT;
    this.redraw();
    this.cleared();
  }

  redraw() {
    this.context.fillRect(0, 0, PAD, PAD);
    if (this.picture) this.context.putImageData(this.picture, (PAD - this.picture.width) >> 1, (PAD - this.picture.height) >> 1);
    for (const stroke of this.strokes) for (let at = 1; at < stroke.length; at++) this.drawLine(stroke[at - 1], stroke[at]);
  }

  drawLine(from, to) {
    const look = { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "white" };
    Object.assign(this.context, look).beginPath();
    this.context.moveTo(...from);
    this.context.lineTo(...to);
    this.context.stroke();
  }

  /** Says what is drawn, once a frame at most: a finger moves more often. */
  tell() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      const { data } = this.context.getImageData(0, 0, PAD, PAD);
      const ink = new Float32Array(PAD * PAD);
      for (let at = 0; at < ink.length; at++) ink[at] = data[4 * at]; // white strokes: one channel says all
      const image = normaliseDigit(ink, PAD, PAD);
      this.words.textContent = image || !this.picture ? HINT : BLANK;
      if (image) this.changed(image);
    });
  }
}

// A photograph and what networks see in it: masks as outlines and tint over it, side by side, and how sure each one is.
import { drawPhoto, readPicture, squeezePicture } from "./pictures.js";
import { askKernel, make, makeButton, makeFileButton, makeLatest, makeStrip, takeDrops, toFloats } from "./tiles.js";

const LEAST = 200; // pixels: a notebook may lay out its cells later
const SHOWN = 960; // longer side of what is drawn on the page, in pixels, at most
const OUTLINE = 1 / 320; // as in s18_utils/unet/overlay.py
const DOUBT = [[126, 3, 168], [204, 71, 120], [248, 149, 64], [240, 249, 33]];
const BACKGROUND = "background";

/** Where to look, for each of `length` pixels, in a row of `size` values: two neighbours and the share of the second. */
function makeSteps(length, size) {
  return Array.from({ length }, (_, at) => {
    const place = Math.min(Math.max(((at + 0.5) * size) / length - 0.5, 0), size - 1), first = Math.floor(place);
    return { first, next: Math.min(first + 1, size - 1), share: place - first };
  });
}

/**
 * Calls `visit(at, values)` for every pixel of a picture with the probabilities of the classes there, interpolated.
 * @param {Float32Array} probabilities  classes × size × size.
 */
function visitPixels(probabilities, classes, size, width, height, visit) {
  const columns = makeSteps(width, size), line = new Float32Array(classes * size), values = new Float32Array(classes);
  makeSteps(height, size).forEach(({ first, next, share }, row) => {
    for (let index = 0; index < classes; index++)
      for (let at = 0; at < size; at++) {
        const above = probabilities[(index * size + first) * size + at];
        line[index * size + at] = above + share * (probabilities[(index * size + next) * size + at] - above);
      }
    for (let column = 0; column < width; column++) {
      const step = columns[column];
      for (let index = 0; index < classes; index++) {
        const left = line[index * size + step.first];
        values[index] = left + step.share * (line[index * size + step.next] - left);
      }
      visit(row * width + column, values);
    }
  });
}

/** The likeliest class of each pixel at a picture's size. */
export function enlargeMask(probabilities, classes, size, width, height) {
  const mask = new Uint8Array(width * height);
  visitPixels(probabilities, classes, size, width, height, (at, values) => {
    let best = 0;
    for (let index = 1; index < classes; index++) if (values[index] > values[best]) best = index;
    mask[at] = best;
  });
  return mask;
}

/** Where classes meet, as bands of `width` pixels. */
function findOutlines(mask, columns, rows, width) {
  const edges = new Uint8Array(mask.length), before = width >> 1;
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const at = row * columns + column;
      if (column + width < columns && mask[at] !== mask[at + width]) edges[at + before] = 1;
      if (row + width < rows && mask[at] !== mask[at + width * columns]) edges[at + before * columns] = 1;
    }
  return edges;
}

const toParts = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

function blend(data, at, colour, opacity) {
  for (let part = 0; part < 3; part++) data[at + part] += opacity * (colour[part] - data[at + part]);
}

/** The photograph with the mask over it, as a canvas of that size. */
function drawOverlay(photo, answer, network, width, height) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  drawPhoto(context, photo, width, height);
  const picture = context.getImageData(0, 0, width, height), colours = network.colours.map(toParts);
  const mask = enlargeMask(answer, network.classes.length, network.size, width, height);
  const line = Math.max(1, Math.round(OUTLINE * Math.max(width, height)));
  const white = findOutlines(mask, width, height, line), black = findOutlines(mask, width, height, 2 * line);
  mask.forEach((index, at) => {
    if (white[at]) blend(picture.data, 4 * at, [255, 255, 255], 1);
    else if (black[at]) blend(picture.data, 4 * at, [0, 0, 0], 0.55);
    else blend(picture.data, 4 * at, colours[index], network.tints[index]);
  });
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** The photograph in grey, in colour where the network is unsure, as a canvas of that size. */
function drawCertainty(photo, answer, network, width, height) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d"), classes = network.classes.length;
  drawPhoto(context, photo, width, height);
  const picture = context.getImageData(0, 0, width, height), { data } = picture;
  visitPixels(answer, classes, network.size, width, height, (at, values) => {
    const doubt = Math.min(Math.max(((1 - Math.max(...values)) * classes) / (classes - 1), 0), 1);
    const grey = 0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2];
    const place = doubt * (DOUBT.length - 1), first = Math.min(Math.floor(place), DOUBT.length - 2);
    const colour = DOUBT[first].map((part, index) => part + (place - first) * (DOUBT[first + 1][index] - part));
    data.fill(grey, 4 * at, 4 * at + 3);
    blend(data, 4 * at, colour, 0.9 * Math.sqrt(doubt));
  });
  context.putImageData(picture, 0, 0);
  return canvas;
}

const DRAW = { mask: drawOverlay, certainty: drawCertainty };

/** A mask as probabilities: all of each pixel's for one class. */
function spreadMask(mask, classes) {
  const probabilities = new Float32Array(classes * mask.length);
  mask.forEach((index, at) => (probabilities[index * mask.length + at] = 1));
  return probabilities;
}

/** In words, how much of the picture a network gives to each class. */
function describeMask(mask, classes) {
  const counts = new Array(classes.length).fill(0);
  mask.forEach((index) => counts[index]++);
  const parts = classes.map((name, index) => [name, counts[index] / mask.length]);
  return parts.map(([name, part]) => (part ? `${name} ${(100 * part).toFixed(part < 0.1 ? 1 : 0)}\u00a0%` : `no ${name}`)).join(", ");
}

/**
 * The view: a photograph from a file, the camera or the examples, and each network's answer over it.
 * `predict(squares, answered)` is given the photograph squeezed to each network's size, Uint8Array 3 × size × size, and
 * calls `answered(index, probabilities)` for each network as it is through; that says false once another photograph came.
 */
export class PhotoView {
  /**
   * @param about  what `describe_unets` in s18_utils/play/photographs.py says.
   * @param examples  pictures to choose from, as of `cutTiles`.
   */
  constructor(element, about, examples, predict) {
    Object.assign(this, { about, predict, shows: "mask", wipe: 1, photo: null, answers: [], turn: 0 });
    element.classList.add("s18-play");
    const choose = makeFileButton("A photograph of yours", "file", (file) => this.receive(file));
    takeDrops(element, (file) => this.receive(file));
    this.refresh = makeLatest(() => this.ask(), (error) => this.say(error.message));
    this.camera = navigator.mediaDevices?.getUserMedia ? [makeButton("Camera", "camera", () => this.openCamera())] : [];
    this.message = make("p", { data: "message", role: "status" });
    this.live = make("div", { className: "s18-live", hidden: true });
    const slider = make("input", { type: "range", min: 0, max: 100, value: 100, data: "wipe" });
    slider.addEventListener("input", () => this.redraw({ wipe: slider.value / 100 }));
    const kinds = make("select", { data: "shows" }, new Option("masks", "mask"), new Option("how sure it is", "certainty"));
    kinds.addEventListener("change", () => this.redraw({ shows: kinds.value }));
    this.controls = make(
      "div", { className: "s18-controls", hidden: true },
      make("label", {}, "photograph ", slider, " answer"), make("label", {}, "show ", kinds),
    );
    const truth = about.truth === null ? [] : [{ ...about.networks[about.truth], label: "as people marked it" }];
    this.looks = [...about.networks, ...truth];
    this.tiles = this.looks.map((look) => this.makeAnswer(look));
    this.grid = make("div", { className: "s18-answers", hidden: true }, ...this.tiles.map(({ figure }) => figure));
    const strip = makeStrip("photographs of the test split", examples.map((example, index) => this.makeExample(example, index)));
    this.legends = { mask: this.makeLegend(), certainty: this.makeScale() };
    element.append(
      make("div", { className: "s18-controls" }, choose, ...this.camera), strip, this.live, this.message,
      this.controls, this.grid, ...Object.values(this.legends), make("p", { className: "s18-note", textContent: about.note }),
    );
  }

  makeAnswer(network) {
    const canvas = make("canvas", { role: "img" }), words = make("span");
    const save = makeButton("save", "save", () => this.save(this.looks.indexOf(network)));
    save.setAttribute("aria-label", `save: ${network.label}`);
    const caption = make("figcaption", {}, make("b", { textContent: network.label }), make("br"), words, " ", save);
    return { figure: make("figure", {}, canvas, caption), canvas, words, save };
  }

  makeExample([bitmap, truth], index) {
    const canvas = make("canvas", { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const button = make("button", { type: "button", "aria-label": `picture ${index + 1}` }, canvas);
    button.addEventListener("click", () => this.take(bitmap, truth));
    return button;
  }

  makeLegend() {
    const seen = new Map(this.about.networks.flatMap(({ classes, colours }) => classes.map((name, index) => [name, colours[index]])));
    const chips = [...seen].filter(([name]) => name !== BACKGROUND).map(([name, colour]) => {
      const chip = make("span", { className: "s18-chip" });
      chip.style.background = colour;
      return make("span", {}, chip, ` ${name}`);
    });
    return make("p", { className: "s18-legend" }, ...chips);
  }

  /** What the colours of `drawCertainty` mean. */
  makeScale() {
    const bar = make("span", { className: "s18-bar" });
    bar.style.background = `linear-gradient(to right, ${DOUBT.map((part) => `rgb(${part})`)})`;
    return make("p", { className: "s18-legend", hidden: true }, "grey: sure; ", bar, " from a little doubt to no idea");
  }

  /** A file that was chosen: a photograph, or a sentence that says why it is none. */
  async receive(file) {
    const reading = (this.reading = {}); // whatever is chosen while it is read comes instead
    try {
      const bitmap = await readPicture(file);
      if (reading === this.reading) await this.take(bitmap);
    } catch (error) {
      if (reading === this.reading) this.say(error.message);
    }
  }

  say(words) {
    this.message.textContent = words;
  }

  /** Shows a bitmap and asks every network about it; `truth` has its true mask, a byte a pixel, if there is one. */
  take(bitmap, truth = null) {
    const { networks } = this.about;
    this.turn++;
    this.closeCamera();
    Object.assign(this, { photo: bitmap, answers: [], reading: null });
    this.controls.hidden = this.grid.hidden = false;
    const room = Math.max(this.tiles[0].figure.clientWidth, LEAST); // drawn as large as it is seen: outlines stay whole
    const scale = Math.min((room * devicePixelRatio) / bitmap.width, SHOWN / Math.max(bitmap.width, bitmap.height));
    this.sides = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    this.tiles.forEach(({ words, save }) => {
      words.textContent = "…";
      save.disabled = true;
    });
    this.redraw();
    this.say("");
    if (this.looks.length > networks.length) this.tiles.at(-1).figure.hidden = !truth;
    if (truth) this.receiveAnswer(networks.length, spreadMask(truth, this.looks.at(-1).classes.length));
    return this.refresh();
  }

  async ask() {
    const { photo, turn } = this, { networks } = this.about, squares = {};
    for (const { size } of networks) squares[size] ??= squeezePicture(photo, size);
    await this.predict(networks.map(({ size }) => squares[size]), (index, probabilities) => {
      if (turn === this.turn) this.receiveAnswer(index, probabilities);
      return turn === this.turn;
    });
  }

  receiveAnswer(index, probabilities) {
    const { classes, size } = this.looks[index];
    this.answers[index] = { probabilities };
    this.tiles[index].save.disabled = false;
    this.tiles[index].words.textContent = describeMask(enlargeMask(probabilities, classes.length, size, size, size), classes);
    this.drawAnswer(index);
  }

  redraw(changes = {}) {
    Object.assign(this, changes);
    for (const [kind, legend] of Object.entries(this.legends)) legend.hidden = kind !== this.shows;
    this.tiles.forEach((_, index) => this.drawAnswer(index));
  }

  /** How answer `index` is shown: of people's mask there is no doubt. */
  kindOf(index) {
    return index < this.about.networks.length ? this.shows : "mask";
  }

  /** Network `index`'s canvas: its answer left of the slider's place, the photograph right of it. */
  drawAnswer(index) {
    const { canvas } = this.tiles[index], network = this.looks[index], answer = this.answers[index];
    const [width, height] = this.sides, kind = this.kindOf(index);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.setAttribute("aria-label", `the photograph and over it ${kind === "mask" ? "the mask" : "how sure it is"}: ${network.label}`);
    const context = canvas.getContext("2d"), place = Math.round(this.wipe * width);
    drawPhoto(context, this.photo, width, height);
    if (!answer || !place) return;
    answer[kind] ??= DRAW[kind](this.photo, answer.probabilities, network, width, height);
    context.drawImage(answer[kind], 0, 0, place, height, 0, 0, place, height);
  }

  /** Offers the answer over the photograph, at the photograph's own size, as a file. */
  async save(index) {
    const { probabilities } = this.answers[index], { width, height } = this.photo, kind = this.kindOf(index);
    try {
      const blob = await DRAW[kind](this.photo, probabilities, this.looks[index], width, height).convertToBlob();
      const name = `${this.looks[index].label.replace(/\W+/g, "-")}-${kind}.png`;
      const link = make("a", { href: URL.createObjectURL(blob), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } catch (error) {
      this.say(`this photograph can't be saved at its own size (${error.message}): choose a smaller one`);
    }
  }

  closeCamera() {
    this.opening = null; // a camera that is allowed only now stays off
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    if (this.live.contains(document.activeElement)) this.camera[0].focus();
    this.live.replaceChildren();
    this.live.hidden = true;
  }

  async openCamera() {
    this.closeCamera();
    this.reading = null; // a file that is read only now would close it again
    const opening = (this.opening = {}); // whichever was asked for last
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (opening !== this.opening) return stream.getTracks().forEach((track) => track.stop());
      this.stream = stream;
      const video = make("video", { srcObject: stream, muted: true, playsInline: true });
      const shoot = makeButton("Take it", "shoot", () =>
        createImageBitmap(video).then((bitmap) => this.take(bitmap)).catch((error) => this.say(error.message)),
      );
      const close = makeButton("Close", "close", () => this.closeCamera());
      this.live.replaceChildren(video, make("div", { className: "s18-controls" }, shoot, close));
      this.live.hidden = false;
      shoot.disabled = true;
      await video.play(); // before, there is no picture to take
      shoot.disabled = false;
      shoot.focus();
    } catch (error) {
      if (opening !== this.opening) return; // nobody waits for it any more
      this.closeCamera();
      this.say(`the camera can't be used (${error.message}): allow it, or choose a photograph from a file`);
    }
  }
}

/**
 * The tiles of a picture that `join_tiles` made: `count` squares in a row, and below them their masks if it is higher.
 * @returns pairs of a bitmap and a mask, a byte a pixel, or null.
 */
export async function cutTiles(blob, count) {
  const picture = await createImageBitmap(blob), side = picture.width / count;
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const cutMask = (at) => new Uint8Array(context.getImageData(at, side, side, side).data.filter((_, place) => place % 4 === 0));
  return Promise.all(
    Array.from({ length: count }, async (_, tile) => [
      await createImageBitmap(picture, tile * side, 0, side, side), picture.height > side ? cutMask(tile * side) : null,
    ]),
  );
}

export default {
  async render({ model, el }) {
    const ask = askKernel(model), about = model.get("about");
    const examples = await cutTiles(new Blob([model.get("content")]), about.examples);
    const view = new PhotoView(el, about, examples, async (squares, answered) => {
      const answers = await ask({}, squares);
      answers.forEach((buffer, index) => answered(index, toFloats(buffer)));
    });
    view.take(...examples[0]);
    return () => view.closeCamera();
  },
};

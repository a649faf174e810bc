// A photograph and what networks see in it: masks as outlines and tint over it, side by side, and how sure each one is.
import { make, makeButton } from "./tiles.js";
import { readPicture, squeezePicture } from "./pictures.js";
import { askKernel, toFloats } from "./tiles.js";

const SHOWN = 960; // longer side of what is drawn on the page, in pixels, at most
const TINT = 0.4; // the same look as draw_overlay and draw_certainty have in s18_utils/unet/overlay.py
const OUTLINE = 1 / 320;
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
export function drawOverlay(photo, answer, network, width, height) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, width, height);
  const picture = context.getImageData(0, 0, width, height), colours = network.colours.map(toParts);
  const mask = enlargeMask(answer, network.classes.length, network.size, width, height);
  const line = Math.max(1, Math.round(OUTLINE * Math.max(width, height)));
  const white = findOutlines(mask, width, height, line), black = findOutlines(mask, width, height, 2 * line);
  mask.forEach((index, at) => {
    if (white[at]) blend(picture.data, 4 * at, [255, 255, 255], 1);
    else if (black[at]) blend(picture.data, 4 * at, [0, 0, 0], 0.55);
    else if (network.classes[index] !== BACKGROUND) blend(picture.data, 4 * at, colours[index], TINT);
  });
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** The photograph in grey, in colour where the network is unsure, as a canvas of that size. */
export function drawCertainty(photo, answer, network, width, height) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d"), classes = network.classes.length;
  context.drawImage(photo, 0, 0, width, height);
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

/** In words, how much of the picture a network gives to each class. */
export function describeMask(mask, classes) {
  const counts = new Array(classes.length).fill(0);
  mask.forEach((index) => counts[index]++);
  const parts = classes.map((name, index) => [name, counts[index] / mask.length]);
  return parts.map(([name, part]) => (part ? `${name} ${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %` : `no ${name}`)).join(", ");
}

/**
 * The view: a photograph from a file, the camera or the examples, and each network's answer over it.
 * `predict(squares, answered)` is given the photograph squeezed to each network's size, Uint8Array 3 × size × size, and
 * calls `answered(index, probabilities)` for each network as it is through.
 */
export class PhotoView {
  /**
   * @param about  `networks`: [{label, size, classes, colours}]; `note`: what they were trained on;
   *   `examples`: bitmaps.
   */
  constructor(element, about, predict) {
    Object.assign(this, { about, predict, shows: "mask", wipe: 1, photo: null, answers: [], turn: 0 });
    element.classList.add("s18-play");
    const file = make("input", { type: "file", accept: "image/*", data: "file" });
    file.addEventListener("change", () => file.files.length && this.receive(file.files[0]));
    const choose = make("label", { className: "s18-button" }, "A photograph of yours", file);
    this.camera = navigator.mediaDevices?.getUserMedia ? [makeButton("Camera", "camera", () => this.openCamera())] : [];
    this.message = make("p", { data: "message" });
    this.message.setAttribute("role", "status");
    this.live = make("div", { className: "s18-live", hidden: true });
    const slider = make("input", { type: "range", min: 0, max: 100, value: 100, data: "wipe" });
    slider.addEventListener("input", () => this.redraw({ wipe: slider.value / 100 }));
    const kinds = make("select", { data: "shows" }, new Option("masks", "mask"), new Option("how sure it is", "certainty"));
    kinds.addEventListener("change", () => this.redraw({ shows: kinds.value }));
    this.controls = make(
      "div", { className: "s18-controls", hidden: true },
      make("label", {}, "photograph ", slider, " answer"), make("label", {}, "show ", kinds),
    );
    this.tiles = about.networks.map((network) => this.makeAnswer(network));
    this.grid = make("div", { className: "s18-answers", hidden: true }, ...this.tiles.map(({ figure }) => figure));
    const examples = (about.examples ?? []).map((bitmap, index) => this.makeExample(bitmap, index));
    const strip = make("div", { className: "s18-examples", data: "examples" }, ...examples);
    strip.hidden = !examples.length;
    element.append(
      make("div", { className: "s18-controls" }, choose, ...this.camera), strip, this.live, this.message,
      this.controls, this.grid, this.makeLegend(), make("p", { className: "s18-note", textContent: about.note }),
    );
  }

  makeAnswer(network) {
    const canvas = make("canvas", { role: "img" }), words = make("span"), save = make("a", { textContent: "save", href: "#" });
    save.addEventListener("click", (event) => {
      event.preventDefault();
      this.save(this.tiles.findIndex((tile) => tile.canvas === canvas));
    });
    const caption = make("figcaption", {}, make("b", { textContent: network.label }), make("br"), words, " ", save);
    return { figure: make("figure", {}, canvas, caption), canvas, words };
  }

  makeExample(bitmap, index) {
    const canvas = make("canvas", { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const button = make("button", { type: "button" }, canvas);
    button.setAttribute("aria-label", `test photograph ${index + 1}`);
    button.addEventListener("click", () => this.take(bitmap));
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

  /** A file that was chosen: a photograph, or a sentence that says why it is none. */
  async receive(file) {
    try {
      await this.take(await readPicture(file));
    } catch (error) {
      this.say(error.message);
    }
  }

  say(words) {
    this.message.textContent = words;
  }

  /** Shows a bitmap and asks every network about it. */
  async take(bitmap) {
    const turn = ++this.turn;
    Object.assign(this, { photo: bitmap, answers: [] });
    this.controls.hidden = this.grid.hidden = false;
    const room = this.tiles[0].figure.clientWidth || SHOWN / 2; // drawn as large as it is seen: outlines stay whole
    const scale = Math.min((room * devicePixelRatio) / bitmap.width, SHOWN / Math.max(bitmap.width, bitmap.height));
    this.sides = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    this.tiles.forEach(({ words }) => (words.textContent = "…"));
    this.redraw();
    this.say("");
    const squares = {};
    for (const { size } of this.about.networks) squares[size] ??= squeezePicture(bitmap, size);
    try {
      await this.predict(this.about.networks.map(({ size }) => squares[size]), (index, probabilities) => {
        if (turn !== this.turn) return; // another photograph came meanwhile
        const { classes, size } = this.about.networks[index];
        this.answers[index] = { probabilities };
        this.tiles[index].words.textContent = describeMask(enlargeMask(probabilities, classes.length, size, size, size), classes);
        this.drawAnswer(index);
      });
    } catch (error) {
      this.say(error.message);
    }
  }

  redraw(changes = {}) {
    Object.assign(this, changes);
    this.tiles.forEach((_, index) => this.drawAnswer(index));
  }

  /** Network `index`'s canvas: its answer left of the slider's place, the photograph right of it. */
  drawAnswer(index) {
    const { canvas } = this.tiles[index], network = this.about.networks[index], answer = this.answers[index];
    const [width, height] = this.sides;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.setAttribute("aria-label", `the photograph and what ${network.label} sees in it`);
    const context = canvas.getContext("2d"), place = Math.round(this.wipe * width);
    context.drawImage(this.photo, 0, 0, width, height);
    if (!answer || !place) return;
    const draw = this.shows === "mask" ? drawOverlay : drawCertainty;
    answer[this.shows] ??= draw(this.photo, answer.probabilities, network, width, height);
    context.drawImage(answer[this.shows], 0, 0, place, height, 0, 0, place, height);
  }

  /** Offers the answer over the photograph, at the photograph's own size, as a file. */
  async save(index) {
    const answer = this.answers[index], { width, height } = this.photo;
    if (!answer) return;
    const draw = this.shows === "mask" ? drawOverlay : drawCertainty;
    const blob = await draw(this.photo, answer.probabilities, this.about.networks[index], width, height).convertToBlob();
    const link = make("a", { href: URL.createObjectURL(blob), download: `${this.shows}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  async openCamera() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      const video = make("video", { srcObject: stream, muted: true, playsInline: true });
      const close = () => {
        stream.getTracks().forEach((track) => track.stop());
        this.live.hidden = true;
        this.live.replaceChildren();
      };
      const shoot = makeButton("Take it", "shoot", async () => {
        const bitmap = await createImageBitmap(video);
        close();
        await this.take(bitmap);
      });
      this.live.replaceChildren(video, make("div", { className: "s18-controls" }, shoot, makeButton("Close", "close", close)));
      this.live.hidden = false;
      await video.play();
    } catch (error) {
      this.say(`the camera can't be used (${error.message}): allow it, or choose a photograph from a file`);
    }
  }
}

/** The tiles of a row of squares, each as high as the picture. */
export async function cutTiles(blob) {
  const row = await createImageBitmap(blob), side = row.height;
  return Promise.all(Array.from({ length: row.width / side }, (_, at) => createImageBitmap(row, at * side, 0, side, side)));
}

export default {
  async render({ model, el }) {
    const ask = askKernel(model), about = model.get("about"), examples = model.get("examples");
    if (examples?.byteLength) about.examples = await cutTiles(new Blob([examples]));
    const view = new PhotoView(el, about, async (squares, answered) => {
      const answers = await ask({}, squares);
      answers.forEach((buffer, index) => answered(index, toFloats(buffer)));
    });
    if (about.examples?.length) await view.take(about.examples[0]);
  },
};

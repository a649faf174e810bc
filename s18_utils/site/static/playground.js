// The playground: conditional VAEs in the browser. Each <section data-set="…"> of the page is one of them.
"use strict";

const CLASSES = 10;
ort.env.wasm.wasmPaths = new URL("runtime/", document.baseURI).href;
ort.env.wasm.numThreads = 1; // more need headers that plain file servers do not send

/** The networks of one data set, and what they were trained on. */
class Painter {
  static async load(name, about) {
    const painter = new Painter();
    Object.assign(painter, about, { pixels: about.channels * about.side ** 2 });
    const at = (file) => new URL(`models/${name}/${file}`, document.baseURI).href;
    const examples = await (await fetch(at("examples.json"))).json();
    painter.examples = examples;
    painter.bytes = Uint8Array.from(atob(examples.images), (letter) => letter.charCodeAt(0));
    // One after the other: the runtime starts once.
    painter.decoder = await ort.InferenceSession.create(at("decoder.onnx"));
    painter.judge = await ort.InferenceSession.create(at("judge.onnx"));
    if (about.channels === 1) painter.encoder = await ort.InferenceSession.create(at("encoder.onnx"));
    return painter;
  }

  /** Test image `index` as floats in [0, 1], channel by channel. */
  example(index) {
    const bytes = this.bytes.subarray(index * this.pixels, (index + 1) * this.pixels);
    return Float32Array.from(bytes, (byte) => byte / 255);
  }

  images(values) {
    return new ort.Tensor("float32", values, [values.length / this.pixels, this.channels, this.side, this.side]);
  }

  /** The code of an image with that label. */
  async encode(image, label) {
    const labels = new ort.Tensor("float32", mixture(label, label, 0), [1, CLASSES]);
    return (await this.encoder.run({ images: this.images(image), labels })).codes.data;
  }

  /** One code drawn under each of several rows of labels; all drawings in one array. */
  async decode(code, rows) {
    const codes = new Float32Array(rows.length * this.latent);
    rows.forEach((_, row) => codes.set(code, row * this.latent));
    const labels = new Float32Array(rows.length * CLASSES);
    rows.forEach((values, row) => labels.set(values, row * CLASSES));
    const feeds = {
      codes: new ort.Tensor("float32", codes, [rows.length, this.latent]),
      labels: new ort.Tensor("float32", labels, [rows.length, CLASSES]),
    };
    return (await this.decoder.run(feeds)).images.data;
  }

  /** For each image the label that the judge reads, and how sure it is. */
  async read(images) {
    const chances = (await this.judge.run({ images: this.images(images) })).chances.data;
    return Array.from({ length: chances.length / CLASSES }, (_, row) => {
      const own = Array.from(chances.subarray(row * CLASSES, (row + 1) * CLASSES));
      const label = own.indexOf(Math.max(...own));
      return { label, chance: own[label] };
    });
  }

  /** Draws the image that starts at `offset` of `values` into a canvas. */
  show(canvas, values, offset = 0) {
    canvas.width = canvas.height = this.side;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(this.side, this.side);
    const area = this.side ** 2;
    for (let at = 0; at < area; at++) {
      for (let channel = 0; channel < 3; channel++) {
        const plane = this.channels === 1 ? 0 : channel;
        picture.data[4 * at + channel] = Math.round(255 * values[offset + plane * area + at]);
      }
      picture.data[4 * at + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  }
}

/** A row of labels: `share` of the second, the rest of the first. */
function mixture(first, second, share) {
  const row = new Float32Array(CLASSES);
  row[first] += 1 - share;
  row[second] += share;
  return row;
}

/** One section of the page: what is chosen or drawn, and everything that follows from it. */
class Stage {
  constructor(section, painter) {
    this.painter = painter;
    this.part = (name) => section.querySelector(`[data-part="${name}"]`);
    for (const name of ["own", "asked", "other"])
      painter.names.forEach((text, value) => this.part(name).append(new Option(text, value)));
    const [first] = painter.examples.labels;
    this.part("asked").value = (first + 1) % CLASSES; // a swap from the start
    this.part("other").value = (first + 6) % CLASSES;
    this.tiles = painter.names.map((name) => this.tile(name));
    this.part("drawings").append(...this.tiles.map(({ figure }) => figure));
    painter.examples.labels.forEach((label, index) => this.part("examples").append(this.thumbnail(label, index)));
    this.part("own").addEventListener("change", () => this.recode());
    for (const name of ["asked", "other", "share"]) this.part(name).addEventListener("input", () => this.morph());
    if (this.part("pad")) new Pad(this.part("pad"), this.part("clear"), (ink, side) => this.drawn(ink, side));
  }

  tile(name) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `drawn as ${name}`);
    figure.append(canvas, caption);
    return { figure, canvas, caption };
  }

  thumbnail(label, index) {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-label", `test image ${index + 1}, ${this.painter.names[label]}`);
    this.painter.show(canvas, this.painter.example(index));
    button.append(canvas);
    button.addEventListener("click", () => this.choose(index));
    return button;
  }

  async choose(index) {
    const { labels, codes } = this.painter.examples;
    await this.take(this.painter.example(index), labels[index], Float32Array.from(codes[index]));
  }

  async drawn(ink, side) {
    const image = normaliseDigit(ink, side, side);
    if (!image) return;
    const [{ label }] = await this.painter.read(image);
    await this.take(image, label, await this.painter.encode(image, label));
  }

  /** The visitor knows better what the drawing is. */
  async recode() {
    const label = Number(this.part("own").value);
    if (this.painter.encoder) this.code = await this.painter.encode(this.image, label);
    await this.take(this.image, label, this.code);
  }

  async take(image, label, code) {
    Object.assign(this, { image, code });
    this.part("own").value = label;
    this.painter.show(this.part("input"), image);
    const every = this.painter.names.map((_, asked) => mixture(asked, asked, 0));
    const drawings = await this.painter.decode(code, every);
    const verdicts = await this.painter.read(drawings);
    this.tiles.forEach(({ figure, canvas, caption }, asked) => {
      const read = verdicts[asked];
      this.painter.show(canvas, drawings, asked * this.painter.pixels);
      figure.classList.toggle("own", asked === label);
      figure.classList.toggle("wrong", read.label !== asked);
      caption.textContent = this.painter.names[asked] + (read.label === asked ? " ✓" : ` ✗ ${this.painter.names[read.label]}`);
      caption.title = `the judge reads ${this.painter.names[read.label]}, ${Math.round(100 * read.chance)} % sure`;
    });
    await this.morph();
  }

  async morph() {
    const [asked, other, share] = ["asked", "other", "share"].map((name) => Number(this.part(name).value));
    const drawing = await this.painter.decode(this.code, [mixture(asked, other, share / 100)]);
    const [{ label, chance }] = await this.painter.read(drawing);
    this.painter.show(this.part("output"), drawing);
    this.part("verdict").textContent = `the judge reads ${this.painter.names[label]} (${Math.round(100 * chance)} % sure)`;
  }
}

/** A canvas to draw on, with a mouse, a pen or a finger. */
class Pad {
  constructor(canvas, clear, done) {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    Object.assign(context, { lineWidth: canvas.width / 13, lineCap: "round", lineJoin: "round", strokeStyle: "white" });
    const wipe = () => context.fillRect(0, 0, canvas.width, canvas.height);
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
    };
    let last = null;
    const stroke = (event) => {
      const here = place(event);
      context.beginPath();
      context.moveTo(...last);
      context.lineTo(...here);
      context.stroke();
      last = here;
    };
    wipe();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      stroke(event);
    });
    canvas.addEventListener("pointermove", (event) => last && stroke(event));
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, () => {
        if (!last) return;
        last = null;
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        done(Float32Array.from({ length: data.length / 4 }, (_, at) => data[4 * at]), canvas.width);
      });
    clear.addEventListener("click", wipe);
  }
}

async function start() {
  const status = document.getElementById("status");
  try {
    const sets = await (await fetch(new URL("models/sets.json", document.baseURI))).json();
    window.stages = {};
    for (const [name, about] of Object.entries(sets)) {
      const section = document.querySelector(`section[data-set="${name}"]`);
      const stage = new Stage(section, await Painter.load(name, about));
      await stage.choose(0);
      window.stages[name] = stage;
      section.hidden = false;
    }
    status.hidden = true;
  } catch (error) {
    status.textContent = `The playground can't start: ${error.message}`;
    throw error;
  }
}

start();

// The page's networks: a conditional VAE with its judges, and UNets, each behind one function.

const home = new URL("../", import.meta.url);
const worker = new Worker(new URL("worker.js", import.meta.url));
const open = new Map();
let last = 0;

worker.onmessage = ({ data: { id, error, ...answer } }) => {
  const { resolve, reject } = open.get(id);
  open.delete(id);
  if (error) reject(new Error(error));
  else resolve(answer);
};

/** Runs the network in a file; `inputs` are `{name: {values, shape}}`. Resolves to its first output, values and shape. */
export function runNetwork(file, inputs) {
  return new Promise((resolve, reject) => {
    open.set(++last, { resolve, reject });
    worker.postMessage({ id: last, address: new URL(file, home).href, inputs });
  });
}

/** A file of the page beside its scripts. */
export async function fetchFile(file) {
  const answer = await fetch(new URL(file, home));
  if (!answer.ok) throw new Error(`${file} can't be fetched (${answer.status}): load the page again`);
  return answer;
}

const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const unpack = (text) => new Float32Array(toBytes(text).buffer);

/** A conditional VAE and its judges; `about` is what `export_cvae` wrote of them. */
export class Painter {
  static async load(name, about) {
    const painter = new Painter(), examples = await (await fetchFile(`models/${name}/examples.json`)).json();
    Object.assign(painter, about, { name, pixels: about.channels * about.side ** 2, labels: examples.labels });
    for (const array of ["codes", "mean", "directions", "deviations"]) painter[array] = unpack(examples[array]);
    painter.images = toBytes(examples.images);
    return painter;
  }

  run(network, inputs) {
    return runNetwork(`models/${this.name}/${network}.onnx`, inputs);
  }

  /** Test image `index` as floats in [0, 1], channel by channel. */
  example(index) {
    return Float32Array.from(this.images.subarray(index * this.pixels, (index + 1) * this.pixels), (byte) => byte / 255);
  }

  code(index) {
    return this.codes.slice(index * this.latent, (index + 1) * this.latent);
  }

  toImages(values) {
    return { values, shape: [values.length / this.pixels, this.channels, this.side, this.side] };
  }

  /** The code of an image with that label. */
  async encode(image, label) {
    const labels = { values: this.oneHot([label]), shape: [1, this.classes.length] };
    return (await this.run("encoder", { images: this.toImages(image), labels })).values;
  }

  oneHot(labels) {
    const rows = new Float32Array(labels.length * this.classes.length);
    labels.forEach((label, row) => (rows[row * this.classes.length + label] = 1));
    return rows;
  }

  /** Codes, one after the other, each drawn under its row of label shares; all drawings in one array. */
  async decode(codes, shares) {
    const count = codes.length / this.latent;
    const labels = { values: shares, shape: [count, this.classes.length] };
    return (await this.run("decoder", { codes: { values: codes, shape: [count, this.latent] }, labels })).values;
  }

  /** What each judge reads in each image, `{label, chance}` by image and judge; nothing without judges. */
  async read(images) {
    const count = images.length / this.pixels, classes = this.classes.length;
    if (!this.judges) return Array.from({ length: count }, () => []);
    const { values } = await this.run("judges", { images: this.toImages(images) });
    return Array.from({ length: count }, (_, image) =>
      Array.from({ length: this.judges }, (_, judge) => {
        const start = (judge * count + image) * classes, own = Array.from(values.subarray(start, start + classes));
        const label = own.indexOf(Math.max(...own));
        return { label, chance: own[label] };
      }),
    );
  }
}

// What the page fetches beside its scripts: files, and networks that a worker runs.
import { Painter } from "./painter.js";

const home = new URL("../", import.meta.url);
const worker = new Worker(new URL("worker.js", import.meta.url));
const open = new Map();
let last = 0, broken = null;

worker.onerror = () => {
  broken = new Error("the script that runs networks can't be loaded: load the page again, or use another browser");
  for (const { reject } of open.values()) reject(broken);
  open.clear();
};

worker.onmessage = ({ data: { id, error, values } }) => {
  const { resolve, reject } = open.get(id);
  open.delete(id);
  if (error) reject(new Error(error));
  else resolve(values);
};

/** Runs the network in a file; `inputs` are `{name: {values, shape}}`. Resolves to its first output. */
export function runNetwork(file, inputs) {
  return new Promise((resolve, reject) => {
    if (broken) return reject(broken);
    open.set(++last, { resolve, reject });
    worker.postMessage({ id: last, address: new URL(file, home).href, inputs });
  });
}

/** A file of the page. */
export async function fetchFile(file) {
  const answer = await fetch(new URL(file, home));
  if (!answer.ok) throw new Error(`${file} can't be fetched (${answer.status}): load the page again`);
  return answer;
}

/** A conditional VAE whose networks the browser runs. */
export class BrowserPainter extends Painter {
  static async load(name, about) {
    const bytes = await (await fetchFile(`models/${name}/examples.bin`)).arrayBuffer();
    return Object.assign(new BrowserPainter(about, new Uint8Array(bytes)), { name });
  }

  run(network, inputs) {
    return runNetwork(`models/${this.name}/${network}.onnx`, inputs);
  }

  toImages(values) {
    return { values, shape: [values.length / this.pixels, this.channels, this.side, this.side] };
  }

  encode(image, label) {
    const labels = { values: this.oneHot([label]), shape: [1, this.classes.length] };
    return this.run("encoder", { images: this.toImages(image), labels });
  }

  decode(codes, shares) {
    const count = codes.length / this.latent, labels = { values: shares, shape: [count, this.classes.length] };
    return this.run("decoder", { codes: { values: codes, shape: [count, this.latent] }, labels });
  }

  /** Chances of each class by judge and image; nothing without judges. */
  read(images) {
    return this.judges ? this.run("judges", { images: this.toImages(images) }) : new Float32Array(0);
  }

  async swap(image, label, shares) {
    label ??= this.toReadings(await this.read(image), 1)[0][0].label;
    const code = await this.encode(image, label), count = shares.length / this.classes.length;
    const codes = new Float32Array(count * this.latent);
    for (let row = 0; row < count; row++) codes.set(code, row * this.latent);
    const drawings = await this.decode(codes, shares);
    return { label, drawings, chances: this.read(drawings) };
  }
}

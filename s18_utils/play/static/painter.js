// What views of a conditional VAE know of it, and the kernel that draws for them in a notebook.
import { askKernel, toFloats } from "./tiles.js";

/**
 * A conditional VAE with its judges. Who runs its networks brings two functions:
 * `decode(codes, shares)` resolves to drawings, Float32Array: codes one after the other, each under its row of label
 * shares. `swap(image, label, shares)` codes an image under its label, or if that is null under what the first judge
 * reads in it, and draws the code under each row of shares; it resolves to `{label, drawings, chances}`, chances of each
 * class by judge and drawing, or a promise of them.
 */
export class Painter {
  /**
   * @param about  what `describe_painter` in s18_utils/play/latent.py says.
   * @param {Uint8Array|DataView} bytes  the arrays that `about` names, floats, and behind them the test images.
   */
  constructor(about, bytes) {
    Object.assign(this, about, { pixels: about.channels * about.side ** 2 });
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    let at = 0;
    for (const [name, length] of about.arrays) {
      this[name] = new Float32Array(buffer, at, length);
      at += 4 * length;
    }
    this.images = new Uint8Array(buffer, at);
  }

  /** Test image `index` as floats in [0, 1], channel by channel. */
  example(index) {
    return Float32Array.from(this.images.subarray(index * this.pixels, (index + 1) * this.pixels), (byte) => byte / 255);
  }

  code(index) {
    return this.codes.slice(index * this.latent, (index + 1) * this.latent);
  }

  /** A test image in words. */
  nameOf(index) {
    return `test image ${index + 1}, ${this.classes[this.labels[index]]}`;
  }

  oneHot(labels) {
    const rows = new Float32Array(labels.length * this.classes.length);
    labels.forEach((label, row) => (rows[row * this.classes.length + label] = 1));
    return rows;
  }

  /** What each judge reads, `{label, chance}` by image and judge; nothing without judges. */
  toReadings(chances, count) {
    const classes = this.classes.length;
    return Array.from({ length: count }, (_, image) =>
      Array.from({ length: this.judges }, (_, judge) => {
        const own = Array.from(chances.subarray((judge * count + image) * classes).subarray(0, classes));
        const label = own.indexOf(Math.max(...own));
        return { label, chance: own[label] };
      }),
    );
  }
}

/** One whose networks the kernel runs, with one question for each change: see `run_networks` in s18_utils/play/labels.py. */
export class KernelPainter extends Painter {
  constructor(model) {
    super(model.get("about"), model.get("content"));
    this.ask = askKernel(model);
  }

  async decode(codes, shares) {
    return toFloats((await this.ask({ work: "decode" }, [codes, shares]))[0]);
  }

  async swap(image, label, shares) {
    const [own, drawings, chances] = (await this.ask({ work: "swap", label }, [image, shares])).map(toFloats);
    return { label: own[0], drawings, chances };
  }
}

// Label swaps: an input, from the test set or drawn by hand, under one label or between two, and under all of them.
import { Pad } from "./pad.js";
import { KernelPainter } from "./painter.js";
import { drawTile, make, makeLatest, makeMenu, makeStrip, makeTile } from "./tiles.js";

/** A row of label shares: `share` of the second, the rest of the first. */
function mixLabels(first, second, share, classes) {
  const row = new Float32Array(classes);
  row[first] += 1 - share;
  row[second] += share;
  return row;
}

/** Words for what judges read, and whether they agree on what was asked. */
function describeVerdict(readings, asked, classes) {
  if (!readings.length) return [];
  const agree = readings.every(({ label }) => asked.includes(label));
  const mark = make("span", { className: agree ? "s18-right" : "s18-wrong", textContent: agree ? "✓" : "✗" });
  const words = readings.map(({ label, chance }) => `${classes[label]} (${Math.round(100 * chance)}\u00a0% sure)`).join(" and ");
  return [mark, ` the ${readings.length > 1 ? "judges read" : "judge reads"} ${words}`];
}

export class SwapView {
  constructor(element, painter) {
    Object.assign(this, { painter });
    const { classes, labels } = painter, first = (labels[0] + 1) % classes.length; // a swap from the start
    this.own = makeMenu(classes, "own");
    this.own.disabled = !painter.pad;
    this.asked = makeMenu(classes, "asked", first);
    this.other = makeMenu(classes, "other", (first + Math.floor(classes.length / 2)) % classes.length);
    this.share = make("input", { type: "range", min: 0, max: 100, value: 0, data: "share" });
    this.input = makeTile("the input");
    this.output = makeTile("the drawing");
    this.output.dataset.part = "output";
    this.verdict = make("p", { data: "verdict", role: "status" });
    this.tiles = classes.map((name) => this.makeDrawing(name));
    const stage = make(
      "div", { className: "s18-stage" },
      make(
        "div", {},
        make("div", { className: "s18-controls" }, make("label", {}, "it is a ", this.own)),
        make(
          "div", { className: "s18-pair" },
          make("figure", {}, this.input, make("figcaption", { textContent: "input" })),
          make("figure", {}, this.output, make("figcaption", { textContent: "drawing" })),
        ),
        make("div", { className: "s18-controls" }, make("label", {}, "drawn as ", this.asked), make("label", {}, "towards ", this.other)),
        make("label", { className: "s18-slider" }, "how far ", this.share),
        this.verdict,
      ),
    );
    element.classList.add("s18-play");
    element.append(
      stage, makeStrip("test images", Array.from(labels, (_, index) => this.makeExample(index))),
      make("div", { className: "s18-drawings", data: "drawings" }, ...this.tiles.map(({ figure }) => figure)),
    );
    this.refresh = makeLatest(() => this.draw(), (error) => (this.verdict.textContent = error.message));
    this.own.addEventListener("change", () => this.take(this.image, (this.told = Number(this.own.value))));
    for (const control of [this.asked, this.other, this.share]) control.addEventListener("input", () => this.refresh());
    if (painter.pad) {
      const pad = make("div"), ask = () => (painter.judges ? null : Number(this.own.value));
      // What is drawn is what the first judge reads, until the visitor says otherwise.
      this.pad = new Pad(pad, (image) => this.take(image, this.told ?? ask()), () => (this.told = null));
      stage.prepend(pad);
    }
    this.started = this.choose(0);
  }

  makeDrawing(name) {
    const canvas = makeTile(`drawn as ${name}`), caption = make("figcaption", { textContent: name });
    return { figure: make("figure", {}, canvas, caption), canvas, caption };
  }

  makeExample(index) {
    const tile = makeTile(this.painter.nameOf(index)), button = make("button", { type: "button" }, tile);
    drawTile(tile, this.painter.example(index), this.painter);
    button.addEventListener("click", () => this.choose(index));
    return button;
  }

  choose(index) {
    this.pad?.clear(); // it would show another digit than the input
    return this.take(this.painter.example(index), this.painter.labels[index]);
  }

  take(image, label) {
    Object.assign(this, { image, label });
    drawTile(this.input, image, this.painter);
    return this.refresh();
  }

  async draw() {
    const { painter, image } = this, { classes } = painter, shares = new Float32Array((classes.length + 1) * classes.length);
    const [asked, other, share] = [this.asked.value, this.other.value, this.share.value / 100].map(Number);
    shares.set(painter.oneHot(classes.map((_, row) => row)));
    shares.set(mixLabels(asked, other, share, classes.length), classes.length ** 2);
    const { label, drawings, chances } = (this.result = await painter.swap(image, this.label, shares));
    if (image === this.image) this.own.value = label;
    drawTile(this.output, drawings, painter, classes.length);
    this.tiles.forEach(({ figure, canvas }, row) => {
      drawTile(canvas, drawings, painter, row);
      figure.classList.toggle("own", row === label);
    });
    const readings = painter.toReadings(await chances, classes.length + 1); // judges are the largest networks, and come last
    const most = share === 0.5 ? [asked, other] : [share < 0.5 ? asked : other];
    this.verdict.replaceChildren(...describeVerdict(readings[classes.length], most, classes));
    this.tiles.forEach(({ caption }, row) => {
      const [mark] = describeVerdict(readings[row], [row], classes);
      caption.replaceChildren(classes[row], " ", ...(mark ? [make("br"), mark] : []));
      caption.title = readings[row].map((reading) => `read as ${classes[reading.label]}`).join(", ");
    });
  }
}

export default {
  render({ model, el }) {
    new SwapView(el, new KernelPainter(model));
  },
};

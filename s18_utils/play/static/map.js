// A map of the latent space: test codes on the plane of their first two principal directions, and what is drawn there.
import { KernelPainter } from "./painter.js";
import { drawTile, followPointer, make, makeButton, makeLatest, makeMenu, makeTile } from "./tiles.js";

const MAP = 480; // pixels of the map's canvas, whatever its size on the screen
const REACH = 2.7; // standard deviations from the middle of the map to its edge
const WAY = 9; // drawings on the way from one code to another
const RING = 13; // pixels of the map: the radius of the mark
const NEAR = 14; // pixels of the map: a tap so close to a test code means that code
// Okabe and Ito's colours, and four more between them, each read on white and on black.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#8c6bb1", "#9a7b4f", "#7f7f7f", "#c2a500"];

/** A number of the normal distribution. */
function drawNormal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

/**
 * The view. Of a `Painter` it needs the test codes, `codes` (count × latent), their `mean` (latent), `directions`
 * (shown × latent) of length 1 and the `deviations` (shown) along them.
 *
 * What is shown is always the drawing of `this.code` under the chosen label; the place on the map and the sliders are
 * its coordinates along the directions. Moving one leaves all the others, and what no direction covers, as they are.
 */
export class MapView {
  constructor(element, painter) {
    const { classes, labels, latent, codes, mean, directions, deviations } = painter;
    Object.assign(this, { painter, classes, labels, latent, codes, mean, directions, deviations });
    const words = "map of test codes; drag the ring over it, or use the arrow keys";
    const look = { className: "s18-map", width: MAP, height: MAP };
    this.canvas = make("canvas", { ...look, tabIndex: 0, role: "img", "aria-label": words, data: "map" });
    this.label = makeMenu(classes, "drawn-as", labels[0]);
    this.label.addEventListener("change", () => this.refresh());
    this.shown = make("select", { data: "shown" }, new Option("all", -1), ...classes.map((name, index) => new Option(name, index)));
    this.shown.addEventListener("change", () => this.drawMap());
    this.tile = makeTile("what is drawn there");
    this.tile.dataset.part = "drawing";
    this.sliders = Array.from(deviations, (_, index) => this.makeSlider(index));
    this.words = make("p", { data: "place", role: "status" });
    const buttons = [
      makeButton("Sample a new one", "sample", () => this.goTo(Float32Array.from({ length: this.latent }, drawNormal), "a new code")),
      makeButton("From here", "from", () => this.setEnd("from")),
      makeButton("To here", "to", () => this.setEnd("to")),
    ];
    this.way = Array.from({ length: WAY }, (_, step) => {
      const tile = makeTile(`drawing ${step + 1} of ${WAY} on the way`), button = make("button", { type: "button" }, tile);
      button.addEventListener("click", () => this.goTo(this.codeOnWay(step / (WAY - 1)), "on the way"));
      return { tile, button };
    });
    element.classList.add("s18-play");
    element.append(
      make(
        "div", { className: "s18-stage" },
        make("div", {}, this.canvas, make("div", { className: "s18-controls" }, make("label", {}, "test codes of ", this.shown))),
        make(
          "div", {},
          make("div", { className: "s18-pair" }, this.tile, make("div", {}, make("label", {}, "drawn as ", this.label), this.words)),
          ...this.sliders.map(({ row }) => row), make("div", { className: "s18-controls" }, ...buttons),
        ),
      ),
      make("div", { className: "s18-way", data: "way" }, ...this.way.map(({ button }) => button)),
    );
    this.refresh = makeLatest(() => this.draw(), (error) => (this.words.textContent = error.message));
    this.listen();
    const second = Math.max(1, labels.findIndex((label) => label !== labels[0]));
    Object.assign(this, { from: this.painter.code(0), to: this.painter.code(Math.min(second, labels.length - 1)) });
    this.goTo(this.painter.code(0), this.painter.nameOf(0));
  }

  makeSlider(index) {
    const slider = make("input", { type: "range", min: -REACH, max: REACH, step: 0.05, data: `direction-${index + 1}` });
    slider.addEventListener("input", () => this.move(index, Number(slider.value) * this.deviations[index]));
    return { slider, row: make("label", { className: "s18-slider" }, `direction ${index + 1} `, slider) };
  }

  /** A code's coordinate along a direction, 0 in the middle of the map. */
  coordinate(code, direction) {
    let sum = 0;
    for (let at = 0; at < this.latent; at++)
      sum += this.directions[direction * this.latent + at] * (code[at] - this.mean[at]);
    return sum;
  }

  /** Moves the code along one direction to a coordinate. */
  move(direction, coordinate, words = "") {
    const step = coordinate - this.coordinate(this.code, direction);
    const moved = this.code.map((value, at) => value + step * this.directions[direction * this.latent + at]);
    this.goTo(moved, words);
  }

  codeOnWay(share) {
    return this.from.map((value, at) => value + share * (this.to[at] - value));
  }

  setEnd(end) {
    this[end] = this.code;
    this.refresh();
  }

  goTo(code, words = "") {
    this.code = code;
    this.words.textContent = words;
    this.sliders.forEach(({ slider }, index) => (slider.value = this.coordinate(code, index) / this.deviations[index]));
    this.drawMap();
    this.refresh();
  }

  /** Draws the code and the way under the chosen label, in one pass. */
  async draw() {
    const label = Number(this.label.value), codes = new Float32Array((WAY + 1) * this.latent);
    codes.set(this.code);
    for (let step = 0; step < WAY; step++) codes.set(this.codeOnWay(step / (WAY - 1)), (step + 1) * this.latent);
    const drawings = await this.painter.decode(codes, this.painter.oneHot(new Array(WAY + 1).fill(label)));
    drawTile(this.tile, drawings, this.painter);
    this.way.forEach(({ tile }, step) => drawTile(tile, drawings, this.painter, step + 1));
  }

  /** Where a code is on the map's canvas; directions beyond the second are not seen there. */
  placeOf(code) {
    return [0, 1].map((axis) => {
      const share = this.deviations.length > axis ? this.coordinate(code, axis) / (REACH * this.deviations[axis]) : 0;
      return (MAP / 2) * (1 + (axis ? -share : share));
    });
  }

  drawMap() {
    const context = this.canvas.getContext("2d"), only = Number(this.shown.value);
    context.clearRect(0, 0, MAP, MAP);
    const short = this.classes.every((name) => name.length <= 2);
    Object.assign(context, { font: "600 17px system-ui, sans-serif", textAlign: "center", textBaseline: "middle" });
    this.labels.forEach((label, index) => {
      if (only >= 0 && label !== only) return;
      const [x, y] = this.placeOf(this.painter.code(index));
      context.fillStyle = COLOURS[label % COLOURS.length];
      context.beginPath();
      if (short) context.fillText(this.classes[label], x, y);
      else context.arc(x, y, 5, 0, 2 * Math.PI);
      context.fill();
    });
    const [x, y] = this.placeOf(this.code).map((at) => Math.min(Math.max(at, RING), MAP - RING)); // a new code may lie outside
    for (const [colour, width] of [["white", 7], ["black", 3]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: width });
      context.beginPath();
      context.arc(x, y, RING, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  listen() {
    let start = null;
    const begin = (place) => this.moveTo((start = place));
    followPointer(this.canvas, begin, (place) => this.moveTo(place), ([x, y]) => {
      if (Math.hypot(x - start[0], y - start[1]) < 3) this.goToNearest(x, y);
    });
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 1], ArrowDown: [1, -1] };
    this.canvas.addEventListener("keydown", (event) => {
      const [axis, sign] = steps[event.key] ?? [];
      if (sign === undefined || this.deviations.length <= axis) return;
      event.preventDefault();
      this.move(axis, this.coordinate(this.code, axis) + 0.1 * sign * this.deviations[axis]);
    });
  }

  /** Moves the code to a place on the map. */
  moveTo([x, y]) {
    const shares = [(2 * x) / MAP - 1, 1 - (2 * y) / MAP];
    shares.forEach((share, axis) => {
      if (this.deviations.length > axis)
        this.move(axis, Math.min(Math.max(share, -1), 1) * REACH * this.deviations[axis]);
    });
  }

  /** Goes to the test code at a place on the map, if there is one. */
  goToNearest(x, y) {
    const only = Number(this.shown.value);
    let best = -1, least = NEAR;
    this.labels.forEach((label, index) => {
      const [across, down] = this.placeOf(this.painter.code(index)), distance = Math.hypot(across - x, down - y);
      if (distance < least && (only < 0 || label === only)) [best, least] = [index, distance];
    });
    if (best >= 0) this.goTo(this.painter.code(best), this.painter.nameOf(best));
  }
}

export default {
  render({ model, el }) {
    new MapView(el, new KernelPainter(model));
  },
};

// The playground page: photographs for the UNets, and for each conditional VAE swaps and a map.
import { drawTile, make, makeLatest, makeMenu, makeTile, mixLabels } from "./tiles.js";
import { MapView } from "./map.js";
import { Painter, fetchFile, runNetwork } from "./networks.js";
import { Pad } from "./pad.js";
import { PhotoView, cutTiles } from "./photo.js";

/** Words for what judges read, and whether they agree on what was asked. */
export function describeVerdict(readings, asked, classes) {
  if (!readings.length) return [];
  const agree = readings.every(({ label }) => asked.includes(label));
  const mark = make("span", { className: agree ? "s18-right" : "s18-wrong", textContent: agree ? "✓" : "✗" });
  const words = readings.map(({ label, chance }) => `${classes[label]} (${Math.round(100 * chance)} % sure)`).join(" and ");
  return [mark, ` the ${readings.length > 1 ? "judges read" : "judge reads"} ${words}`];
}

/** Swaps: an input, drawn or from the test set, under one label or between two, and under all of them. */
class SwapView {
  constructor(element, painter) {
    Object.assign(this, { painter });
    const first = (painter.labels[0] + 1) % painter.classes.length; // a swap from the start
    const canDraw = painter.channels === 1 && painter.side === 28;
    this.own = makeMenu(painter.classes, "own");
    this.own.disabled = !canDraw;
    this.asked = makeMenu(painter.classes, "asked", first);
    this.other = makeMenu(painter.classes, "other", (first + Math.floor(painter.classes.length / 2)) % painter.classes.length);
    this.share = make("input", { type: "range", min: 0, max: 100, value: 0, data: "share" });
    this.input = makeTile("the input");
    this.output = makeTile("the drawing");
    this.output.dataset.part = "output";
    this.verdict = make("p", { data: "verdict" });
    this.verdict.setAttribute("role", "status");
    this.tiles = painter.classes.map((name) => this.makeDrawing(name));
    const examples = painter.labels.map((label, index) => this.makeExample(label, index));
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
      stage, make("div", { className: "s18-examples", data: "examples" }, ...examples),
      make("div", { className: "s18-drawings", data: "drawings" }, ...this.tiles.map(({ figure }) => figure)),
    );
    const failed = (error) => (this.verdict.textContent = error.message);
    this.refresh = makeLatest(() => this.draw(), failed);
    this.follow = makeLatest(() => this.takeDrawn(), failed);
    this.own.addEventListener("change", () => this.recode().catch(failed));
    for (const control of [this.asked, this.other, this.share]) control.addEventListener("input", () => this.refresh());
    if (canDraw) {
      const pad = make("div");
      new Pad(pad, (image) => {
        this.drawn = image;
        this.follow();
      });
      const hint = "Draw a digit, with a mouse, a pen or a finger, or take one of the test set below.";
      stage.prepend(make("div", {}, make("p", { textContent: hint }), pad));
    }
    this.choose(0);
  }

  makeDrawing(name) {
    const canvas = makeTile(`drawn as ${name}`), caption = make("figcaption");
    return { figure: make("figure", {}, canvas, caption), canvas, caption };
  }

  makeExample(label, index) {
    const tile = makeTile(`test image ${index + 1}, ${this.painter.classes[label]}`), button = make("button", { type: "button" }, tile);
    drawTile(tile, this.painter.example(index), this.painter);
    button.addEventListener("click", () => this.choose(index));
    return button;
  }

  choose(index) {
    this.take(this.painter.example(index), this.painter.labels[index], this.painter.code(index));
  }

  /** What is on the pad; it is a what the first judge reads, until the visitor says otherwise. */
  async takeDrawn() {
    const image = this.drawn, [[first]] = await this.painter.read(image);
    const label = first?.label ?? Number(this.own.value);
    this.take(image, label, await this.painter.encode(image, label));
  }

  async recode() {
    const label = Number(this.own.value);
    this.take(this.image, label, await this.painter.encode(this.image, label));
  }

  take(image, label, code) {
    Object.assign(this, { image, code });
    this.own.value = label;
    drawTile(this.input, image, this.painter);
    this.refresh();
  }

  async draw() {
    const { painter, code } = this, { classes } = painter, count = classes.length + 1, label = Number(this.own.value);
    const [asked, other, share] = [this.asked.value, this.other.value, this.share.value / 100].map(Number);
    const codes = new Float32Array(count * painter.latent), shares = new Float32Array(count * classes.length);
    for (let row = 0; row < count; row++) codes.set(code, row * painter.latent);
    classes.forEach((_, row) => shares.set(mixLabels(row, row, 0, classes.length), row * classes.length));
    shares.set(mixLabels(asked, other, share, classes.length), classes.length ** 2);
    const drawings = await painter.decode(codes, shares), readings = await painter.read(drawings);
    drawTile(this.output, drawings, painter, classes.length);
    const most = share === 0.5 ? [asked, other] : [share < 0.5 ? asked : other];
    this.verdict.replaceChildren(...describeVerdict(readings[classes.length], most, classes));
    this.tiles.forEach(({ figure, canvas, caption }, row) => {
      drawTile(canvas, drawings, painter, row);
      figure.classList.toggle("own", row === label);
      const [mark] = describeVerdict(readings[row], [row], classes);
      caption.replaceChildren(classes[row], " ", ...(mark ? [mark] : []));
      caption.title = readings[row].map((reading) => `read as ${classes[reading.label]}`).join(", ");
    });
  }
}

async function startPhotos(section, about) {
  const examples = about.examples ? await cutTiles(await (await fetchFile(about.examples)).blob()) : [];
  const view = new PhotoView(section, { ...about, examples }, (squares, answered) =>
    Promise.all(
      squares.map(async (square, index) => {
        const { size, file } = about.networks[index];
        const images = { values: Float32Array.from(square, (byte) => byte / 255), shape: [1, 3, size, size] };
        answered(index, (await runNetwork(file, { images })).values);
      }),
    ),
  );
  if (examples.length) await view.take(examples[0]);
  return view;
}

async function startSet(section, name, about) {
  const painter = await Painter.load(name, about), swap = make("div"), map = make("div");
  section.append(
    swap, make("h3", { textContent: "A map of the codes" }),
    make("p", { textContent: "Each mark is a test image's code, on the plane in which the codes differ most. Drag the ring." }), map,
  );
  const view = new SwapView(swap, painter);
  const decode = (codes, labels) => painter.decode(codes, painter.oneHot(labels));
  return { painter, swap: view, map: new MapView(map, painter, decode) };
}

/** Starts a section when it comes into sight: nobody waits for networks that they don't look at. */
function whenSeen(section, start) {
  const status = make("p", { textContent: "Loading …" });
  status.setAttribute("role", "status");
  section.append(status);
  const watch = new IntersectionObserver(async (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    try {
      window.playground[section.id] = await start();
      section.dataset.ready = "";
      status.remove();
    } catch (error) {
      status.textContent = `This part can't start: ${error.message}`;
    }
  }, { rootMargin: "200px" });
  watch.observe(section);
}

async function start() {
  window.playground = {};
  const page = document.getElementById("playground"), { photos, sets } = await (await fetchFile("models/players.json")).json();
  const addSection = (id, title) => {
    const section = make("section", { id }, make("h2", { textContent: title }));
    page.append(section);
    return section;
  };
  if (photos) {
    const section = addSection("photos", "A photograph of yours");
    section.append(make("p", { textContent: "Where is the pet? Networks that differ in how they go down and up again, and in their loss, answer side by side." }));
    whenSeen(section, () => startPhotos(section, photos));
  }
  for (const [name, about] of Object.entries(sets)) {
    const section = addSection(name, about.title);
    whenSeen(section, () => startSet(section, name, about));
  }
}

start().catch((error) => (document.getElementById("playground").textContent = `The playground can't start: ${error.message}`));

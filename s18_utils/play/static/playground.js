// The playground page: photographs for the UNets, and for each conditional VAE swaps and a map.
import { MapView } from "./map.js";
import { BrowserPainter, fetchFile, runNetwork } from "./networks.js";
import { PhotoView, cutTiles } from "./photo.js";
import { SwapView } from "./swap.js";
import { make } from "./tiles.js";

async function startPhotos(section, about) {
  const examples = await cutTiles(await (await fetchFile("models/photographs.png")).blob(), about.examples);
  const view = new PhotoView(section, about, examples, (squares, answered) =>
    Promise.all(
      squares.map(async (square, index) => {
        const { size, file } = about.networks[index];
        const images = { values: Float32Array.from(square, (byte) => byte / 255), shape: [1, 3, size, size] };
        answered(index, await runNetwork(file, { images }));
      }),
    ),
  );
  await view.take(...examples[0]);
  return view;
}

async function startSet(section, name, about) {
  const painter = await BrowserPainter.load(name, about), swap = make("div"), map = make("div");
  section.append(
    swap, make("h3", { textContent: "A map of the codes" }),
    make("p", { textContent: "Each mark is a test image's code, on the plane in which the codes differ most. Drag the ring." }), map,
  );
  const views = { painter, swap: new SwapView(swap, painter), map: new MapView(map, painter) };
  await views.swap.started;
  return views;
}

let started = Promise.resolve();
const starts = new Map(); // what starts each section that was not seen yet

// One observer for all, since several would tell in no order which sections are in sight.
const watch = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || !starts.has(target)) continue;
    const run = starts.get(target);
    starts.delete(target);
    watch.unobserve(target);
    started = started.then(run);
  }
}, { rootMargin: "200px" });

/** Starts a section when it comes into sight, after those above it: nobody waits for what they don't look at. */
function whenSeen(section, start) {
  const status = make("p", { textContent: "Loading …" });
  status.setAttribute("role", "status");
  section.append(status);
  starts.set(section, async () => {
    try {
      window.playground[section.id] = await start();
      section.dataset.ready = "";
      status.remove();
    } catch (error) {
      status.textContent = `This part can't start: ${error.message}`;
    }
  });
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

// The playground page: photographs for the UNets, and for each conditional VAE swaps and a map.
import { MapView } from "./map.js";
import { BrowserPainter, fetchFile, runNetwork } from "./networks.js";
import { PhotoView, cutTiles } from "./photo.js";
import { SwapView } from "./swap.js";
import { make } from "./tiles.js";

async function startPhotos(section, about) {
  const examples = await cutTiles(await (await fetchFile("models/photographs.png")).blob(), about.examples);
  let begin;
  const begun = new Promise((resolve) => (begin = resolve));
  const view = new PhotoView(section, about, examples, async (squares, answered) => {
    for (const [index, { size, file }] of about.networks.entries()) { // one by one: other parts of the page ask in between
      const images = { values: Float32Array.from(squares[index], (byte) => byte / 255), shape: [1, 3, size, size] };
      const more = answered(index, await runNetwork(file, { images }));
      begin();
      if (!more) return; // another photograph came
    }
  });
  await Promise.race([begun, view.take(...examples[0])]); // sections below need not wait for all answers
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
  const status = make("p", { textContent: "Loading …", role: "status" });
  section.append(status);
  section.style.minHeight = "120vh"; // while it is empty: else all of them would be in sight at once
  starts.set(section, async () => {
    try {
      window.playground[section.id] = await start();
      section.dataset.ready = "";
      status.remove();
    } catch (error) {
      status.textContent = `This part can't start: ${error.message}`;
    }
    section.style.minHeight = "";
  });
  watch.observe(section);
}

async function start() {
  window.playground = {};
  const page = document.getElementById("players"), { photos, sets } = await (await fetchFile("models/players.json")).json();
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

start().catch((error) => (document.getElementById("players").textContent = `The playground can't start: ${error.message}`));

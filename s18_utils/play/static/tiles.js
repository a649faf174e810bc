// What all views share: elements, small pictures, and work that is redone when something changes meanwhile.

const CONTROLS = ["a", "button", "canvas", "input", "select"];

/** An element with properties and children; `data` sets data-part, by which views and tests find it. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  // Keys that are pressed in a control are meant for it: JupyterLab would take two of `d` as: delete the cell.
  if (CONTROLS.includes(tag)) element.dataset.lmSuppressShortcuts = "";
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") element.dataset.part = value;
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A select whose values are the positions of its texts. */
export function makeMenu(texts, part, value = 0) {
  const menu = make("select", { data: part }, ...texts.map((text, index) => new Option(text, index)));
  menu.value = value;
  return menu;
}

export function makeButton(text, part, act) {
  const button = make("button", { type: "button", data: part, textContent: text });
  button.addEventListener("click", act);
  return button;
}

/** A button that asks for a picture and hands the file to `take`. */
export function makeFileButton(text, part, take) {
  const input = make("input", { type: "file", accept: "image/*", data: part });
  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file) take(file);
    input.value = ""; // or the same file could not be chosen again
  });
  return make("label", { className: "s18-button" }, text, input);
}

/** Hands a picture that is dropped on an element to `take`; without this the browser would leave the page for it. */
export function takeDrops(element, take) {
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}

/** Buttons in a row that scrolls: one stop of the Tab key, from which the arrow keys lead on. */
export function makeStrip(words, buttons) {
  const strip = make("div", { className: "s18-examples", role: "group", "aria-label": words, data: "examples" }, ...buttons);
  const reach = (one) => buttons.forEach((button) => (button.tabIndex = button === one ? 0 : -1));
  reach(buttons[0]);
  buttons.forEach((button, index) => {
    button.addEventListener("focus", () => reach(button));
    button.addEventListener("keydown", (event) => {
      const next = buttons[index + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? NaN)];
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
  });
  return strip;
}

/** Follows a pointer over a canvas from press to release; places are in the canvas's own pixels. */
export function followPointer(canvas, begin, go, end = () => {}) {
  let pressed = false;
  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [((clientX - left) / width) * canvas.width, ((clientY - top) / height) * canvas.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button > 0) return; // a second finger, another button
    canvas.setPointerCapture(event.pointerId);
    pressed = true;
    begin(place(event));
  });
  canvas.addEventListener("pointermove", (event) => event.isPrimary && pressed && go(place(event)));
  canvas.addEventListener("pointerup", (event) => {
    if (event.isPrimary && pressed) end(place(event));
    pressed = pressed && !event.isPrimary;
  });
  for (const lost of ["pointercancel", "lostpointercapture"])
    canvas.addEventListener(lost, (event) => (pressed = pressed && !event.isPrimary));
}

/**
 * Does `work` again for every call, but never twice at once: calls while it is busy are one call after it. A failure is
 * handed to `failed`.
 */
export function makeLatest(work, failed) {
  let busy = false, waiting = false;
  return async function call() {
    if (busy) {
      waiting = true;
      return;
    }
    busy = true;
    do {
      waiting = false;
      try {
        await work();
      } catch (error) {
        failed(error);
      }
    } while (waiting);
    busy = false;
  };
}

/** Draws image number `index` of `values`, floats in [0, 1] channel by channel, into a canvas. */
export function drawTile(canvas, values, { channels, side }, index = 0) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d"), picture = context.createImageData(side, side), area = side ** 2;
  const start = index * channels * area;
  for (let at = 0; at < area; at++) {
    for (let channel = 0; channel < 3; channel++)
      picture.data[4 * at + channel] = Math.round(255 * values[start + (channels === 1 ? 0 : channel) * area + at]);
    picture.data[4 * at + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

/** A canvas for a tile, with the words that a screen reader says for it. */
export function makeTile(words) {
  return make("canvas", { className: "s18-tile", role: "img", "aria-label": words });
}

/** The numbers of a buffer that came from a kernel, whatever its alignment. */
export function toFloats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

const PATIENCE = 60_000; // milliseconds until a kernel that does not answer is said

/** Questions to a notebook's kernel: `ask(content, buffers)` resolves to the answer's buffers. */
export function askKernel(model) {
  const open = new Map();
  model.on("msg:custom", (content, buffers) => {
    const question = open.get(content.id);
    if (!question) return;
    open.delete(content.id);
    clearTimeout(question.timer);
    if (content.error) question.reject(new Error(content.error));
    else question.resolve(buffers);
  });
  return (content, buffers = []) =>
    new Promise((resolve, reject) => {
      const id = crypto.getRandomValues(new Uint32Array(2)).join("-"); // other renderings of the view hear all answers too
      const timer = setTimeout(() => {
        open.delete(id);
        reject(new Error("the kernel gives no answer: wait until it is idle, or run the cell again"));
      }, PATIENCE);
      open.set(id, { resolve, reject, timer });
      model.send({ ...content, id }, undefined, buffers.map((array) => array.buffer));
    });
}

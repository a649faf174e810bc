// What all views share: elements, small pictures, and work that is redone when something changes meanwhile.

/** An element with properties and children; `data` sets data-part, by which views and tests find it. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
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

/** Questions to a notebook's kernel: `ask(content, buffers)` resolves to the answer's buffers. */
export function askKernel(model) {
  const open = new Map();
  let last = 0;
  model.on("msg:custom", (content, buffers) => {
    const question = open.get(content.id);
    if (!question) return;
    open.delete(content.id);
    if (content.error) question.reject(new Error(content.error));
    else question.resolve(buffers);
  });
  return (content, buffers = []) =>
    new Promise((resolve, reject) => {
      open.set(++last, { resolve, reject });
      model.send({ ...content, id: last }, undefined, buffers.map((array) => array.buffer));
    });
}

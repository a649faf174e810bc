// Runs the networks beside the page, so that it never stands still: ONNX files in WebAssembly.
"use strict";

const home = new URL("../runtime/", self.location).href;
const sessions = new Map();
let runtime = null;

/** The runtime, and its WebAssembly, packed to a quarter; a server may have unpacked it on its own account. */
async function loadRuntime() {
  if (!self.ort) importScripts(`${home}ort.wasm.min.js`);
  Object.assign(ort.env.wasm, { numThreads: 1, wasmPaths: home }); // more need headers that plain file servers do not send
  const packed = new Uint8Array(await (await fetchFile(`${home}ort-wasm-simd-threaded.wasm.gz`)).arrayBuffer());
  const zipped = packed[0] === 0x1f && packed[1] === 0x8b;
  const stream = new Blob([packed]).stream();
  const plain = zipped ? stream.pipeThrough(new DecompressionStream("gzip")) : stream;
  ort.env.wasm.wasmBinary = await new Response(plain).arrayBuffer();
}

async function fetchFile(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} can't be fetched (${answer.status})`);
  return answer;
}

/** A network's session, made at its first use; a failed try is made again at the next. */
function openSession(address) {
  if (!sessions.has(address)) {
    runtime ??= loadRuntime().catch((error) => {
      runtime = null;
      throw error;
    });
    const opened = runtime.then(async () => ort.InferenceSession.create(await (await fetchFile(address)).arrayBuffer()));
    opened.catch(() => sessions.delete(address));
    sessions.set(address, opened);
  }
  return sessions.get(address);
}

let queue = Promise.resolve(); // the runtime does one thing at a time

self.onmessage = ({ data: { id, address, inputs } }) => {
  queue = queue.then(async () => {
    try {
      const session = await openSession(address), feeds = {};
      for (const [name, { values, shape }] of Object.entries(inputs)) feeds[name] = new ort.Tensor("float32", values, shape);
      const outputs = await session.run(feeds);
      self.postMessage({ id, values: outputs[session.outputNames[0]].data });
    } catch (error) {
      self.postMessage({ id, error: `the network can't run here (${error.message}): load the page again, or use another browser` });
    }
  });
};

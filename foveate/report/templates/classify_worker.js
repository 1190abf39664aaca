"use strict";
// The runtime and the model, off the page's own thread. In: {id, kind, ...}; out: {id, value} or {id, error}.
let ort = null, session = null, turn = Promise.resolve();

async function start({ runtime, wasm, model }) {
  const place = URL.createObjectURL(new Blob([runtime], { type: "text/javascript" }));
  ort = await import(place);
  URL.revokeObjectURL(place);
  ort.env.wasm.numThreads = 1; // more need a server that isolates the page
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  return session.outputNames;
}

async function run({ pixels, shape }) {
  const image = new ort.Tensor("uint8", new Uint8Array(pixels), shape);
  const began = performance.now(), found = await session.run({ image }), out = {};
  for (const [name, tensor] of Object.entries(found)) {
    out[name] = Float32Array.from(tensor.data);
    tensor.dispose?.();
  }
  image.dispose?.();
  return { ...out, ms: performance.now() - began };
}

onmessage = (event) => {
  const { id, kind } = event.data;
  turn = turn.then(async () => {
    try {
      postMessage({ id, value: await (kind === "start" ? start : run)(event.data) });
    } catch (error) {
      postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};

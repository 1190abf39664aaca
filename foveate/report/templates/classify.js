"use strict";
// The page of foveate export --to html and --to web: a picture in, the model's answer out. Nothing leaves the page.
const at = (id) => document.getElementById(id);
const FACTS = JSON.parse(at("facts").textContent);
const MAX_PIXELS = 8 * 2 ** 20; // a larger picture is shrunk before the model sees it
const CAMERA_SIDE = 640, SHOWN = 5, GRID = 8, WINDOW = 2, AUTOMATIC_MS = 4000;
let worker = null, count = 0, current = 0, last = null, stream = null, taken = 0;
const waiting = new Map();

// ---- the model ----

async function part(name) {
  const inside = at(`part-${name}`);
  if (inside) {
    const packed = await fetch(`data:application/octet-stream;base64,${inside.textContent.trim()}`);
    inside.remove();
    return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }
  const found = await fetch(FACTS.parts[name]);
  if (!found.ok) throw new Error(`${FACTS.parts[name]}: ${found.status}`);
  return found.arrayBuffer();
}

function ask(message, moved = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++count, { resolve, reject });
    worker.postMessage({ id: count, ...message }, moved);
  });
}

async function start() {
  const inside = at("worker");
  const place = inside ? URL.createObjectURL(new Blob([inside.textContent], { type: "text/javascript" })) : FACTS.parts.worker;
  worker = new Worker(place);
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    "error" in data ? reject(new Error(data.error)) : resolve(data.value);
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message || "the worker can not start"));
    waiting.clear();
  };
  const [runtime, wasm, model] = await Promise.all(["runtime", "wasm", "model"].map(part));
  await ask({ kind: "start", runtime, wasm, model }, [runtime, wasm, model]);
}

const ready = start();

async function answer(pixels, width, height, n = 1) {
  await ready;
  return ask({ kind: "run", pixels: pixels.buffer, shape: [n, height, width, 3] }, [pixels.buffer]);
}

// ---- pictures ----

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(1, Math.round(width)), Math.max(1, Math.round(height))];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = `rgb(${FACTS.preprocess.background.join(" ")})`; // shows through what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  return [canvas, context];
}

function rgb(context, x, y, width, height) {
  const from = context.getImageData(x, y, width, height).data, to = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; i < from.length; i += 4) {
    to[j++] = from[i];
    to[j++] = from[i + 1];
    to[j++] = from[i + 2];
  }
  return to;
}

async function decoded(file) {
  const how = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, how);
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (bitmap.width * bitmap.height)));
  const [canvas, context] = canvasOf(bitmap.width * scale, bitmap.height * scale);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

async function classified(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return answer(rgb(context, 0, 0, canvas.width, canvas.height), canvas.width, canvas.height);
}

// ---- what the answer says ----

// the limit for a share is that of the next one in the table; null: nothing is limited
function limitOf(share) {
  const row = FACTS.keep.find(([known]) => share <= known + 1e-9);
  return row && row[1] !== null ? row[1] : Infinity;
}

function ranked(found) {
  return Array.from(found.probabilities, (p, k) => [FACTS.classes[k], p, k]).sort((a, b) => b[1] - a[1] || a[2] - b[2]);
}

function judged(found) {
  const share = Number(at("keep").value), strange = found.strangeness?.[0];
  const unknown = Boolean(share) && strange !== undefined && !(strange <= limitOf(share));
  return { top: ranked(found), unknown, strangeness: strange };
}

function show(found, name) {
  const { top, unknown, strangeness } = judged(found);
  at("label").textContent = unknown ? "None of these" : top[0][0];
  at("label").classList.toggle("unknown", unknown);
  const near = unknown ? `Unlike the pictures that the model knows; the nearest class is ${top[0][0]}. ` : "";
  const rank = strangeness === undefined ? "" : ` · strangeness ${strangeness.toFixed(2)}`;
  at("said").textContent = `${near}${name} · ${found.ms.toFixed(0)} ms${rank}`;
  at("bars").replaceChildren(
    ...top.slice(0, SHOWN).map(([label, p]) => {
      const row = document.createElement("tr"), head = document.createElement("th");
      const cell = document.createElement("td"), bar = document.createElement("meter"), number = document.createElement("td");
      head.textContent = label;
      [bar.max, bar.value, number.textContent] = [1, p, `${(100 * p).toFixed(1)} %`];
      bar.setAttribute("aria-label", label);
      cell.append(bar);
      row.append(head, cell, number);
      return row;
    }),
  );
  at("answer").hidden = false;
  return { label: unknown ? null : top[0][0], nearest: top[0][0], top: top.slice(0, SHOWN), unknown, strangeness, ms: found.ms };
}

// ---- where it looks: the score of the class with each part covered by the mean colour ----

// The square that the network sees, in the picture's own pixels: [x, y, width, height]
function seen(width, height) {
  const p = FACTS.preprocess;
  if (p.fit === "squash") return [0, 0, width, height];
  const long = Math.max(width, height), short = Math.min(width, height);
  const side = p.fit === "letterbox" ? long : (short * p.resolution) / p.resize;
  return [(width - side) / 2, (height - side) / 2, side, side];
}

function score(logits, start, classes, label) {
  let rest = 0;
  for (let k = 0; k < classes; k++) if (k !== label) rest += Math.exp(logits[start + k] - logits[start + label]);
  return -Math.log(Math.max(rest, 1e-30));
}

async function looked(canvas, label, mine) {
  const p = FACTS.preprocess, side = p.fit === "crop" ? p.resize : p.resolution, edge = (side - p.resolution) / 2;
  const [x, y, width, height] = seen(canvas.width, canvas.height), zoom = p.resolution / width, wide = p.resolution / height;
  const [small, context] = canvasOf(side, side);
  context.fillStyle = `rgb(${p.fill} ${p.fill} ${p.fill})`;
  context.fillRect(0, 0, side, side);
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, edge - x * zoom, edge - y * wide, canvas.width * zoom, canvas.height * wide);
  const plain = rgb(context, 0, 0, side, side), mean = [0, 0, 0], cells = GRID - WINDOW + 1, classes = FACTS.classes.length;
  for (let i = 0; i < plain.length; i++) mean[i % 3] += plain[i] / (plain.length / 3);
  const whole = await answer(plain.slice(), side, side);
  const before = score(whole.logits, 0, classes, label), drops = new Float32Array(GRID * GRID), times = new Float32Array(GRID * GRID);
  for (let row = 0; row < cells; row++) {
    const batch = new Uint8Array(cells * plain.length);
    for (let column = 0; column < cells; column++) {
      batch.set(plain, column * plain.length);
      const unit = p.resolution / GRID, [left, top] = [edge + column * unit, edge + row * unit].map(Math.floor);
      for (let j = top; j < Math.min(side, top + WINDOW * unit); j++)
        for (let i = left; i < Math.min(side, left + WINDOW * unit); i++)
          batch.set(mean, column * plain.length + 3 * (j * side + i));
    }
    const found = await answer(batch, side, side, cells);
    if (mine !== current) return null; // another picture came
    for (let column = 0; column < cells; column++) {
      const drop = before - score(found.logits, column * classes, classes, label);
      for (let j = row; j < row + WINDOW; j++)
        for (let i = column; i < column + WINDOW; i++) {
          drops[j * GRID + i] += drop;
          times[j * GRID + i] += 1;
        }
    }
  }
  return drops.map((drop, i) => Math.max(0, drop / times[i]));
}

function drawHeat(canvas, map) {
  const most = Math.max(...map), small = document.createElement("canvas");
  small.width = small.height = GRID;
  const context = small.getContext("2d"), data = context.createImageData(GRID, GRID);
  map.forEach((v, i) => data.data.set([230, 60, 20, Math.round((170 * v) / Math.max(most, 1e-9))], 4 * i));
  context.putImageData(data, 0, 0);
  const shown = at("picture").getContext("2d"), scale = at("picture").width / canvas.width;
  shown.save();
  shown.beginPath();
  shown.rect(0, 0, at("picture").width, at("picture").height);
  shown.clip();
  shown.imageSmoothingQuality = "high";
  shown.drawImage(small, ...seen(canvas.width, canvas.height).map((v) => v * scale));
  shown.restore();
}

async function heat() {
  const { canvas, found, mine } = last;
  at("look").disabled = true;
  at("where").textContent = "Covering parts of the picture …";
  try {
    const [[name, , label]] = ranked(found), map = await looked(canvas, label, mine);
    if (map === null) return null;
    if (Math.max(...map) < 0.02) {
      at("where").textContent = "No part of the picture matters much by itself.";
    } else {
      draw(canvas);
      drawHeat(canvas, map);
      at("where").textContent = `In colour: where covering the picture takes most from ${name}.`;
    }
    return Array.from(map);
  } catch (error) {
    at("where").textContent = `No map: ${error.message}`;
    return null;
  }
}

// ---- the page ----

function draw(canvas) {
  const view = at("picture"), scale = Math.min(1, 640 / Math.max(canvas.width, canvas.height));
  view.width = Math.max(1, Math.round(canvas.width * scale));
  view.height = Math.max(1, Math.round(canvas.height * scale));
  view.getContext("2d").drawImage(canvas, 0, 0, view.width, view.height);
  at("view").hidden = false;
}

function tell(text) {
  at("state").textContent = text;
}

async function classify(file, name = file.name || "picture") {
  const mine = ++current;
  closeCamera();
  tell("");
  let canvas;
  try {
    canvas = await decoded(file);
  } catch {
    tell(`${name}: this browser can not read it as a picture; JPEG, PNG, WebP and GIF work everywhere`);
    throw new Error("not a picture");
  }
  const found = await classified(canvas);
  if (mine !== current) return null;
  last = { canvas, found, mine, name };
  draw(canvas);
  const said = show(found, name);
  at("look").hidden = false;
  at("look").disabled = false;
  at("where").textContent = "";
  if (found.ms * (GRID - WINDOW + 1) ** 2 < AUTOMATIC_MS) heat();
  return said;
}

async function openCamera() {
  const mine = ++current;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    tell(`No camera: ${error?.message || "this browser gives none to this page"}`);
    return;
  }
  at("camera").textContent = "Stop camera";
  at("look").hidden = true;
  at("where").textContent = "";
  const video = document.createElement("video");
  [video.muted, video.playsInline, video.srcObject] = [true, true, stream];
  await video.play();
  while (mine === current && stream) {
    const scale = Math.min(1, CAMERA_SIDE / Math.max(video.videoWidth, video.videoHeight));
    const [canvas, context] = canvasOf(video.videoWidth * scale, video.videoHeight * scale);
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const found = await classified(canvas);
    if (mine !== current || !stream) break;
    last = { canvas, found, mine, name: "camera" };
    taken++;
    draw(canvas);
    show(found, "camera");
    await new Promise(requestAnimationFrame);
  }
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  at("camera").textContent = "Use camera";
}

function take(files) {
  if (files?.length) classify(files[0]).catch(() => {});
}

at("file").onchange = () => take(at("file").files);
at("look").onclick = heat;
at("keep").onchange = () => last && show(last.found, last.name);
at("camera").onclick = () => {
  if (!stream) return openCamera().catch((error) => tell(`No camera: ${error.message}`));
  current++;
  closeCamera();
};
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData?.files));
ready.then(
  () => {
    tell("Ready. Drop a picture anywhere on this page, paste one, or choose one.");
    at("file").disabled = at("camera").disabled = false;
  },
  (error) => {
    const local = location.protocol === "file:" && !at("worker");
    const why = local ? "a browser reads this folder from a server only (python3 -m http.server); --to html makes a page that opens by itself" : error.message;
    tell(`The model can not start here: ${why}`);
  },
);

// for other scripts of the page: pixels are RGB bytes, row by row
globalThis.foveate = { facts: FACTS, ready, classify, classifyPixels: answer, heat, last: () => last, frames: () => taken };

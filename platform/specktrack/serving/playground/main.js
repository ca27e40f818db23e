// The playground: a clip or a camera goes to this server, rows come back and are drawn over the picture.

import { isLive, listCameras, startCamera, stopCamera } from "./camera.js";
import { drawChart, indexAt } from "./chart.js";
import { drawFrame, drawStrip, sharpen } from "./drawing.js";
import { startBatch, watchBatches } from "./batches.js";
import { listFollowers, whenAsked } from "./box.js";
import { whenLabelled } from "./labels.js";
import { $, complain, download, element, shown, state, stem } from "./page.js";
import { seek, whenMoved } from "./player.js";
import { addressed, find, forget, keep, list, update } from "./results.js";
import { annotate, api, askForKey, postClip } from "./server.js";

const video = $("video");
let request = null;  // AbortController of the answer that is waited for
let kept = "";       // id of the result that is shown
let limits = null;   // the server's

// ---- opening

function begin() {  // nothing of what was open before goes on
  if (request) request.abort();
  stopCamera();
  shown.answer = shown.clip = null;
  kept = "";
  return ++shown.turn;
}

async function open(blob, name, asked = chosen(), at = null) {
  if (limits && blob.size > limits.body_bytes) {
    complain(`This clip is ${size(blob.size)}, and the limit is ${size(limits.body_bytes)}: trim it, or submit it as a batch.`);
    return;
  }
  const before = { clip: shown.clip, answer: shown.answer, kept, live: isLive() };
  const mine = begin();
  shown.clip = { blob, name };
  state("working");
  play(blob);
  $("working-text").textContent = "Uploading the clip";
  const started = performance.now();
  try {
    request = new AbortController();
    const answer = await annotate(shown.clip, asked, request.signal, tellSent, tellProgress);
    if (mine !== shown.turn) return;
    shown.answer = { ...answer, asked, seconds: (performance.now() - started) / 1000 };
    kept = await keep(shown.clip, shown.answer);
    show(null, at);
  } catch (error) {
    if (mine !== shown.turn) return;
    if (before.answer && !before.live) show(before); else state("empty");  // a wrong drop costs no result
    if (error.name !== "AbortError") complain(error.message);
  }
}

function chosen() { return $("model").value ? { model: $("model").value } : {}; }

function size(bytes) { return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`; }

function tellSent(share) {
  $("working-text").textContent = share < 1 ? `Uploading the clip, ${Math.floor(100 * share)} %` : "Following the object";
}

function tellProgress({ done, frames, left_s }) {
  const left = left_s < 60 ? `${Math.ceil(left_s)} s` : `${Math.ceil(left_s / 60)} min`;
  $("working-text").textContent = `${done} of ${frames} frames followed, ${left} left`;
}

async function reopen(id) {
  const found = await find(id);
  if (!found) { forget(); complain("This result is no longer saved in this browser."); return; }
  begin();
  show({ ...found, kept: id });
  history.replaceState(null, "", `#result=${id}`);
}

function play(blob) {
  URL.revokeObjectURL(video.src);
  if (blob) video.src = URL.createObjectURL(blob); else { video.removeAttribute("src"); video.load(); }
}

function show(result = null, at = null) {
  if (result) {
    Object.assign(shown, { clip: result.clip, answer: result.answer });
    kept = result.kept;
    play(result.clip.blob);
  }
  const { answer } = shown, found = answer.rows.filter((row) => row.x !== null);
  const score = found.reduce((sum, row) => sum + (row.score ?? 1), 0) / (found.length || 1);
  state("done");
  $("summary").replaceChildren(
    element("b", found.length), ` of ${answer.rows.length} frames with the object, mean score `, element("b", score.toFixed(2)),
    `, by ${answer.model} in `, element("b", `${answer.seconds.toFixed(1)} s`));
  video.style.aspectRatio = `${answer.width} / ${answer.height}`;  // also where this browser cannot play the clip
  tellIfUnplayable();
  $("scrub").max = answer.rows.length - 1;
  resize();
  $("box-card").hidden = !shown.clip.blob;  // the server has no clip of a camera to read again
  seek(at ?? Math.max(0, answer.rows.findIndex((row) => row.x !== null)));
}

function tellIfUnplayable() {
  const unplayable = Boolean(video.error) && document.body.dataset.state === "done";
  $("play").disabled = unplayable;
  if (unplayable && shown.clip.blob) complain("This browser cannot play this clip, so the trajectory is drawn on a black background.");
}

// ---- drawing

function draw() { drawFrame(); drawChart(); }

function resize() {
  sharpen([$("overlay"), $("strip"), $("plot"), $("loupe")]);
  if (shown.answer && shown.answer.rows.length) { if (!isLive()) drawStrip(); draw(); }
}

// ---- taking rows along

function csv() {
  const names = Object.keys(shown.answer.rows[0]);
  const lines = shown.answer.rows.map((row) => names.map((name) => row[name] ?? "").join(","));
  return `${[names.join(","), ...lines].join("\n")}\n`;
}

async function downloadParquet() {
  const mine = shown.turn, kind = "application/vnd.apache.parquet";
  $("get-parquet").disabled = true;
  try {
    const reply = await postClip(shown.clip, shown.answer.asked ?? { model: shown.answer.model }, kind);  // as the rows on this page were
    if (mine === shown.turn) download(await reply.arrayBuffer(), kind, `${stem(shown.clip.name)}.parquet`);
  } catch (error) {
    if (mine === shown.turn) complain(error.message);
  } finally {
    $("get-parquet").disabled = false;
  }
}

// ---- the camera

async function goLive() {
  const mine = begin();
  complain("");
  let drawn = false;
  await startCamera(mine, () => { if (drawn) draw(); else { drawn = true; resize(); } });
}

async function keepLive() {
  const { answer } = shown, rows = stopCamera();
  if (!rows || !rows.length) { state("empty"); return; }
  const clip = { name: "camera.mp4", blob: null };
  const recorded = { ...answer, rows, video: clip.name, seconds: rows.at(-1).pts_s - rows[0].pts_s };
  shown.turn += 1;
  kept = await keep(clip, recorded);
  show({ clip, answer: recorded, kept });
  $("get-parquet").hidden = true;  // the server has no clip to read again
}

// ---- the page

async function loadModels() {
  const models = await (await api("/v1/models")).json();
  $("model").replaceChildren(...models.filter((each) => !each.takes_prompt).map((each) =>
    Object.assign(new Option(each.name, each.name), { title: each.description || `${(each.parameters / 1e6).toFixed(1)} M parameters` })));
  listFollowers(models);
}

function load() { loadModels().then(loadLimits).catch((error) => complain(error.message)); }

async function loadLimits() {
  limits = await (await api("/v1/limits")).json();
  $("limits").textContent = `Up to ${size(limits.body_bytes)} and ${limits.frames.toLocaleString()} frames.`;
}

function showBatches(on) {
  $("batches").hidden = !on;
  $("batches-button").setAttribute("aria-expanded", String(on));
  watchBatches(on);
  if (on) $("batches").scrollIntoView({ block: "nearest" });
}

$("choose").onclick = () => $("file").click();
$("file").onchange = () => { const [file] = $("file").files; if (file) open(file, file.name); $("file").value = ""; };
$("sample").onclick = async () => {
  try { await open(await (await fetch("/playground/sample.mp4")).blob(), "sample.mp4"); } catch (error) { complain(error.message); }
};
$("live").onclick = goLive;
$("keep").onclick = keepLive;
$("stop").onclick = () => request && request.abort();
$("again").onclick = () => { video.pause(); begin(); forget(); state("empty"); list($("kept"), reopen); };
$("zoom").oninput = () => shown.answer && draw();
$("plot").onclick = (event) => { if (!isLive()) { video.pause(); seek(indexAt(event)); } };
$("get-csv").onclick = () => download(csv(), "text/csv", `${stem(shown.clip.name)}.csv`);
$("get-json").onclick = () => download(JSON.stringify(shown.answer, null, 1), "application/json", `${stem(shown.clip.name)}.json`);
$("get-parquet").onclick = downloadParquet;
$("key-button").onclick = async () => { if (await askForKey()) load(); };
$("batches-button").onclick = () => showBatches($("batches").hidden);
$("batch-files").onchange = () => {
  startBatch($("batch-files").files, { overlay: $("batch-overlay").checked, model: $("model").value })
    .catch((error) => complain(error.message));
  $("batch-files").value = "";
};
video.onerror = tellIfUnplayable;
whenMoved(draw);
whenAsked((asked) => open(shown.clip.blob, shown.clip.name, asked, shown.current));
whenLabelled(() => { update(kept, shown.answer); drawStrip(); });
// The whole window takes a drop: beside the stage the browser would leave this page for the file.
addEventListener("dragover", (event) => { event.preventDefault(); $("stage").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("stage").classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) open(file, file.name);
});
addEventListener("resize", resize);
addEventListener("hashchange", () => { const id = addressed(); if (id && id !== kept) reopen(id); });
matchMedia("(prefers-color-scheme: light)").addEventListener("change", resize);
new ResizeObserver(resize).observe($("screen"));
load();
listCameras();
list($("kept"), reopen);
if (addressed()) reopen(addressed());

// What lies over and beside the picture: the trail, the loupe, the strip, and the facts of a frame.

import { $, element, shown } from "./page.js";

const video = $("video"), overlay = $("overlay");
const TAIL_FRAMES = 24;

// Colours are those of the style sheet, which knows light from dark.
export function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }

export function sharpen(canvases) {
  const ratio = devicePixelRatio || 1;
  for (const canvas of canvases) {
    const box = canvas.getBoundingClientRect();
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
  }
}

export function placement() {  // how source px lie on the overlay: the video is letterboxed in its box
  const { width, height } = shown.answer;
  const scale = Math.min(overlay.width / width, overlay.height / height);
  return { scale, left: (overlay.width - width * scale) / 2, top: (overlay.height - height * scale) / 2 };
}

export function drawFrame() {
  const { answer, current } = shown, row = answer.rows[current];
  drawOverlay(answer.rows.slice(Math.max(0, current - TAIL_FRAMES), current + 1));
  drawLoupe(row);
  $("scrub").value = current;
  $("clock").textContent = `${row.pts_s.toFixed(2)} s · ${row.frame}`;
  const score = row.score === null ? "–" : row.score.toFixed(3);
  const said = row.x === null ? [["object", "absent"], ["score", score]] : [
    ["x", `${row.x.toFixed(1)} px`], ["y", `${row.y.toFixed(1)} px`], ["score", score],
    ...(row.kind ? [["kind", row.kind_score === null ? row.kind : `${row.kind} ${row.kind_score.toFixed(2)}`]] : []),
    ["found by", row.provenance], ["speed", speed()]];
  $("facts").replaceChildren(...said.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  const where = row.x === null ? "the object is absent" : `the object at ${row.x.toFixed(0)}, ${row.y.toFixed(0)} px`;
  overlay.setAttribute("aria-label", `Frame ${row.frame}: ${where}`);
}

function speed() {
  const now = shown.answer.rows[shown.current], before = shown.answer.rows[shown.current - 1];
  if (!before || before.x === null || now.pts_s <= before.pts_s) return "–";
  return `${Math.round(Math.hypot(now.x - before.x, now.y - before.y) / (now.pts_s - before.pts_s))} px/s`;
}

function drawOverlay(tail) {
  const context = overlay.getContext("2d"), { scale, left, top } = placement(), ratio = devicePixelRatio || 1;
  const at = (row) => [left + (row.x + 0.5) * scale, top + (row.y + 0.5) * scale];
  context.clearRect(0, 0, overlay.width, overlay.height);
  context.lineCap = "round";
  for (let i = 1; i < tail.length; i++) {
    if (tail[i].x === null || tail[i - 1].x === null) continue;
    context.globalAlpha = (i / tail.length) ** 1.5;
    context.strokeStyle = colour(tail[i].gap ? "filled" : "trail");
    context.lineWidth = (1.5 + 2.5 * i / tail.length) * ratio;
    context.beginPath();
    context.moveTo(...at(tail[i - 1]));
    context.lineTo(...at(tail[i]));
    context.stroke();
  }
  context.globalAlpha = 1;
  const row = tail.at(-1);
  if (!row || row.x === null) return;
  if (row.w !== null) { drawBox(row, "ball"); return; }
  const [x, y] = at(row);
  context.strokeStyle = colour("ball");
  context.lineWidth = 2.2 * ratio;
  context.shadowColor = "#000";
  context.shadowBlur = 6;
  context.beginPath();
  context.arc(x, y, 11 * ratio, 0, 7);
  context.stroke();
  context.shadowBlur = 0;
}

function drawLoupe(row) {
  const canvas = $("loupe"), context = canvas.getContext("2d"), zoom = Number($("zoom").value);
  $("zoom-text").textContent = `${zoom}×`;
  context.fillStyle = "#05080c";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const centre = row.x === null ? lastSeen() : row;
  const still = $("still"), picture = still.hidden ? video : still;
  if (!centre || (picture === video && video.readyState < 2)) return;
  const ratio = devicePixelRatio || 1, width = canvas.width / (zoom * ratio), height = canvas.height / (zoom * ratio);
  const sx = (picture.videoWidth ?? picture.width) / shown.answer.width;
  const sy = (picture.videoHeight ?? picture.height) / shown.answer.height;
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, (centre.x + 0.5 - width / 2) * sx, (centre.y + 0.5 - height / 2) * sy, width * sx, height * sy,
    0, 0, canvas.width, canvas.height);
  context.strokeStyle = row.x === null ? "#ffffff55" : colour("ball");
  context.lineWidth = ratio;
  const x = canvas.width / 2, y = canvas.height / 2, gap = 10 * ratio, arm = 26 * ratio;
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + dx * gap, y + dy * gap);
    context.lineTo(x + dx * arm, y + dy * arm);
  }
  context.stroke();
}

// The source position under a point of the picture.
export function underPointer(event) {
  const box = overlay.getBoundingClientRect(), ratio = overlay.width / box.width, { scale, left, top } = placement();
  return { x: ((event.clientX - box.left) * ratio - left) / scale - 0.5, y: ((event.clientY - box.top) * ratio - top) / scale - 0.5 };
}

// A box on the picture: centre and size, source px.
export function drawBox({ x, y, w, h }, name) {
  const context = overlay.getContext("2d"), { scale, left, top } = placement();
  context.strokeStyle = colour(name);
  context.lineWidth = 2 * (devicePixelRatio || 1);
  context.strokeRect(left + (x + 0.5 - w / 2) * scale, top + (y + 0.5 - h / 2) * scale, w * scale, h * scale);
}

// The source position under a point of the loupe; null where nothing is magnified.
export function underLoupe(event) {
  const canvas = $("loupe"), box = canvas.getBoundingClientRect(), zoom = Number($("zoom").value);
  const row = shown.answer.rows[shown.current], centre = row.x === null ? lastSeen() : row;
  if (!centre) return null;
  return { x: centre.x + (event.clientX - box.left - box.width / 2) / zoom,
    y: centre.y + (event.clientY - box.top - box.height / 2) / zoom };
}

function lastSeen() {
  for (let i = shown.current; i >= 0; i--) if (shown.answer.rows[i].x !== null) return shown.answer.rows[i];
  return null;
}

export function drawStrip() {
  const canvas = $("strip"), context = canvas.getContext("2d"), { rows } = shown.answer, n = rows.length;
  context.clearRect(0, 0, canvas.width, canvas.height);
  rows.forEach((row, i) => {
    context.fillStyle = row.x === null ? colour("faint") : colour(row.gap ? "filled" : "trail");
    context.globalAlpha = row.x === null ? 1 : 0.25 + 0.75 * (row.score ?? 1);
    context.fillRect(Math.floor(i / n * canvas.width), 0, Math.ceil(canvas.width / n), canvas.height);
  });
  context.globalAlpha = 1;
}

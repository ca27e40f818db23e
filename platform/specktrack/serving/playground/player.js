// Time: a frame is known by its presentation time, never by a rate. Playing, stepping, and the keyboard for both.

import { $, shown } from "./page.js";

const video = $("video");
let draw = () => {};

export function whenMoved(listener) { draw = listener; }

function frameAt(time) {
  const { rows, fps } = shown.answer, first = rows[0].pts_s, half = 0.5 / (fps || 30);
  let low = 0, high = rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].pts_s - first <= time + half / 2) low = middle; else high = middle - 1;
  }
  return low;
}

export function seek(index) {
  const { answer } = shown;
  if (!answer || !answer.rows.length) return;
  shown.current = Math.min(Math.max(index, 0), answer.rows.length - 1);
  video.currentTime = answer.rows[shown.current].pts_s - answer.rows[0].pts_s + 0.25 / (answer.fps || 30);
  draw();
}

export function step(frames) { video.pause(); seek(shown.current + frames); }

export function toggle() { if (video.paused) video.play().catch(() => {}); else video.pause(); }

function follow(_, frame) {
  if (document.body.dataset.state === "done" && !video.paused) {
    shown.current = frameAt(frame ? frame.mediaTime : video.currentTime);
    draw();
  }
  watch();
}

function watch() {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(follow);
  else requestAnimationFrame(() => follow());
}

// The next frame from here, and round again, whose row is as wanted; null if there is none.
function next(wanted) {
  const { rows } = shown.answer;
  for (let i = 1; i <= rows.length; i++) {
    const index = (shown.current + i) % rows.length;
    if (wanted(rows[index], rows[(index + rows.length - 1) % rows.length])) return index;
  }
  return null;
}

export function nextGap() {
  const found = next((row, before) => row.x === null && before.x !== null);
  if (found !== null) step(found - shown.current);
}

export function leastCertain() {
  const { rows } = shown.answer;
  const order = rows.map((row, index) => ({ row, index })).filter(({ row }) => row.x !== null && row.score !== null)
    .sort((one, other) => one.row.score - other.row.score);
  if (!order.length) return;
  const here = order.findIndex(({ index }) => index === shown.current);
  step(order[(here + 1) % order.length].index - shown.current);
}

const KEYS = {
  Space: toggle,
  ArrowLeft: () => step(-1), ArrowRight: () => step(1),
  KeyJ: () => step(-10), KeyK: toggle, KeyL: () => step(10),
  Home: () => { video.pause(); seek(0); }, End: () => { video.pause(); seek(Infinity); },
  KeyG: nextGap, KeyU: leastCertain,
};

// Keys work after a click too: a button that was clicked keeps Space and Enter, which press it, a slider other than the
// player's keeps those that move it, and nothing else.
addEventListener("keydown", (event) => {
  const { tagName, type, id } = event.target, busy = event.ctrlKey || event.metaKey || event.altKey;
  const types = tagName === "SELECT" || (tagName === "INPUT" && type !== "range");
  if (document.body.dataset.state !== "done" || types || busy || document.querySelector("dialog[open]")) return;
  if (event.code === "Space" && tagName === "BUTTON" && id !== "play") return;
  if (type === "range" && id !== "scrub" && /^(Arrow|Home|End)/.test(event.code)) return;
  if (KEYS[event.code]) { event.preventDefault(); KEYS[event.code](); }
});

$("play").onclick = toggle;
$("back").onclick = () => step(-1);
$("forward").onclick = () => step(1);
$("gap").onclick = nextGap;
$("uncertain").onclick = leastCertain;
$("speed").onchange = () => { video.playbackRate = Number($("speed").value); };
$("scrub").oninput = () => { video.pause(); seek(Number($("scrub").value)); };
video.onplay = () => { $("play").textContent = "Pause"; };
video.onpause = () => { $("play").textContent = "Play"; };
video.onseeked = video.onloadeddata = () => document.body.dataset.state === "done" && draw();
watch();

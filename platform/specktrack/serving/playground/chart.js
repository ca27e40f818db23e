// The trajectory over time: x and y in source px with their axes, the score below them, and what is under the pointer.

import { $, shown } from "./page.js";
import { colour } from "./drawing.js";

const canvas = $("plot");
const LEFT = 46, BELOW = 18, ABOVE = 6;  // CSS px for the axes' numbers
let hovered = null;                      // index of the row under the pointer

function frame() {
  const ratio = devicePixelRatio || 1, n = shown.answer.rows.length;
  const left = LEFT * ratio, top = ABOVE * ratio, right = canvas.width - 4 * ratio, bottom = canvas.height - BELOW * ratio;
  const across = (i) => left + (n < 2 ? 0 : i / (n - 1)) * (right - left);
  return { ratio, n, left, top, right, bottom, across };
}

export function drawChart() {
  const context = canvas.getContext("2d"), { rows, width, height } = shown.answer;
  const { ratio, n, left, top, right, bottom, across } = frame();
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = colour("score");
  rows.forEach((row, i) => {
    const high = (row.score ?? 0) * (bottom - top);
    context.fillRect(across(i), bottom - high, Math.max(1, (right - left) / n), high);
  });
  drawAxes(context);
  for (const [name, size] of [["x", width], ["y", height]]) {
    context.strokeStyle = colour(name);
    context.lineWidth = 1.6 * ratio;
    context.beginPath();
    let drawing = false;
    rows.forEach((row, i) => {
      if (row[name] === null) { drawing = false; return; }
      const y = top + row[name] / size * (bottom - top);
      if (drawing) context.lineTo(across(i), y); else context.moveTo(across(i), y);
      drawing = true;
    });
    context.stroke();
  }
  drawMark(context, shown.current, colour("ink"));
  if (hovered !== null && hovered < n) { drawMark(context, hovered, colour("dim")); tell(rows[hovered]); }
}

function drawAxes(context) {
  const { rows, width, height } = shown.answer, { ratio, left, top, right, bottom } = frame();
  context.fillStyle = colour("dim");
  context.font = `${10.5 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const [share, text] of [[0, "0 px"], [1, `${width}×${height}`]]) {
    context.fillText(share ? text.split("×")[1] : text, left - 6 * ratio, top + share * (bottom - top));
  }
  context.textAlign = "center";
  const first = rows[0].pts_s, span = rows.at(-1).pts_s - first;
  for (let tick = 0; tick <= 4; tick++) {
    const at = left + tick / 4 * (right - left);
    context.fillText(`${(first + tick / 4 * span).toFixed(1)} s`, Math.min(at, right - 14 * ratio), bottom + BELOW * ratio / 2);
  }
  context.strokeStyle = colour("line");
  context.lineWidth = ratio;
  context.strokeRect(left, top, right - left, bottom - top);
}

function drawMark(context, index, style) {
  const { ratio, top, bottom, across } = frame();
  context.fillStyle = style;
  context.fillRect(across(index) - ratio / 2, top, 1.5 * ratio, bottom - top);
}

function tell(row) {
  const at = row.x === null ? "absent" : `${row.x.toFixed(1)}, ${row.y.toFixed(1)} px`;
  $("under").textContent = `${row.pts_s.toFixed(2)} s · ${row.frame}: ${at}`;
}

// The row under a pointer.
export function indexAt(event) {
  const box = canvas.getBoundingClientRect(), share = (event.clientX - box.left - LEFT) / (box.width - LEFT - 4);
  return Math.round(Math.min(Math.max(share, 0), 1) * (shown.answer.rows.length - 1));
}

canvas.onpointermove = (event) => { if (shown.answer) { hovered = indexAt(event); drawChart(); } };
canvas.onpointerleave = () => { hovered = null; $("under").textContent = ""; if (shown.answer) drawChart(); };

// Follow a box: drag one around the object in any frame, or type it, and it is followed from there in both directions.

import { drawBox, drawFrame, underPointer } from "./drawing.js";
import { $, complain, shown } from "./page.js";

const overlay = $("overlay"), FIELDS = ["x", "y", "w", "h"];
const LEAST_PX = 2;
let corner = null;  // where the drag began
let asked = () => {};

export function whenAsked(listener) { asked = listener; }

export function listFollowers(models) {  // those that take nothing but boxes come first
  const sorted = [...models].sort((one, other) => other.takes_prompt - one.takes_prompt);
  $("box-model").replaceChildren(...sorted.map((each) => new Option(each.name, each.name)));
}

function turn(on) {
  $("box").setAttribute("aria-pressed", String(on));
  $("box-tools").hidden = !on;
  overlay.classList.toggle("takes-boxes", on);
}

const isOn = () => overlay.classList.contains("takes-boxes") && Boolean(shown.answer);

function fill({ x, y, w, h }) {
  const values = { x, y, w, h };
  for (const name of FIELDS) $(`box-${name}`).value = values[name].toFixed(1);
}

function follow(event) {
  event.preventDefault();
  const values = FIELDS.map((name) => Number($(`box-${name}`).value));
  if (values[2] < LEAST_PX || values[3] < LEAST_PX) {
    complain("Drag a box around the object first, or type its centre and size.");
    return;
  }
  asked({ model: $("box-model").value, prompt: [shown.answer.rows[shown.current].frame, ...values].join(",") });
}

$("box").onclick = () => turn($("box-tools").hidden);
$("box-tools").onsubmit = follow;
overlay.addEventListener("pointerdown", (event) => {
  if (!isOn()) return;
  corner = underPointer(event);
  overlay.setPointerCapture(event.pointerId);
});
overlay.addEventListener("pointermove", (event) => {
  if (!isOn() || !corner) return;
  const { x, y } = underPointer(event);
  const box = { x: (x + corner.x) / 2, y: (y + corner.y) / 2, w: Math.abs(x - corner.x), h: Math.abs(y - corner.y) };
  fill(box);
  drawFrame();
  drawBox(box, "sky");
});
overlay.addEventListener("pointerup", () => { corner = null; });

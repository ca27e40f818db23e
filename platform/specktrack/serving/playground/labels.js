// Correction: step, click where the object is (the loupe helps), or say that it is absent; what was looked at is saved.

import { $, complain, download, shown, stem } from "./page.js";
import { underLoupe, underPointer } from "./drawing.js";
import { step } from "./player.js";

const overlay = $("overlay");
let on = false;
let changed = () => {};

export function whenLabelled(listener) { changed = listener; }

function label(place) {  // a label is an observation whose provenance is "labelled"
  const row = shown.answer.rows[shown.current];
  Object.assign(row, { ...place, score: null, provenance: "labelled", gap: 0 });
  changed();
  step(1);
}

function at({ x, y }) {
  const inside = x >= -0.5 && y >= -0.5 && x < shown.answer.width && y < shown.answer.height;
  if (inside) label({ x, y, visibility: "clear" });
}

function accept() {
  const { x, y } = shown.answer.rows[shown.current];
  label(x === null ? { visibility: "absent" } : { x, y, visibility: "clear" });
}

function absent() { label({ x: null, y: null, w: null, h: null, visibility: "absent" }); }

function save() {
  const rows = shown.answer.rows.filter((row) => row.provenance === "labelled");
  if (!rows.length) { complain("No labels yet: accept a row, click the object, or mark it absent."); return; }
  const names = ["video", ...Object.keys(rows[0])];
  const lines = rows.map((row) => names.map((name) => name === "video" ? JSON.stringify(shown.clip.name) : row[name] ?? "").join(","));
  download(`${[names.join(","), ...lines].join("\n")}\n`, "text/csv", `${stem(shown.clip.name)}.labels.csv`);
}

function turn(to) {
  on = to;
  $("correct").setAttribute("aria-pressed", String(on));
  $("correct-tools").hidden = !on;
  overlay.classList.toggle("takes-clicks", on);
}

$("correct").onclick = () => turn(!on);
$("accept").onclick = accept;
$("absent").onclick = absent;
$("save-labels").onclick = save;
overlay.onclick = (event) => { if (on && shown.answer && !overlay.classList.contains("takes-boxes")) at(underPointer(event)); };
$("loupe").onclick = (event) => {
  const place = on && shown.answer ? underLoupe(event) : null;
  if (place) at(place);
};
addEventListener("keydown", (event) => {
  if (!on || document.body.dataset.state !== "done" || /INPUT|SELECT|BUTTON/.test(event.target.tagName)) return;
  if (event.code === "Enter") accept();
  if (event.code === "KeyA") absent();
});

// The list of batches: how far each is, its rows and drawn videos, and a way to stop it.

import { $, complain, download, element } from "./page.js";
import { api } from "./server.js";

const LOOK_EVERY_MS = 2000;
const FINAL = ["done", "failed", "cancelled"];
let timer = null;

export function watchBatches(on) {
  clearInterval(timer);
  if (on) { look(); timer = setInterval(look, LOOK_EVERY_MS); }
}

async function look() {
  try {
    const { batches } = await (await api("/v1/batches?limit=20")).json();
    $("batch-list").replaceChildren(...batches.map(item));
    $("no-batches").hidden = batches.length > 0;
  } catch (error) {
    clearInterval(timer);
    complain(error.message);
  }
}

function item(batch) {
  const made = element("li", "");
  const progress = batch.frames_planned ? `, ${batch.frames} of ${batch.frames_planned} frames` : "";
  made.append(element("b", batch.sources.join(", ")), element("span", ` ${batch.state}${batch.state === "running" ? progress : ""}`));
  if (batch.frames_planned && batch.state === "running") {
    made.append(element("progress", "", { max: batch.frames_planned, value: batch.frames, ariaLabel: "Frames done" }));
  }
  if (batch.error) made.append(element("p", batch.error));
  const quarantined = Object.entries(batch.quarantined).map(([reason, clips]) => `${clips} ${reason}`);
  if (quarantined.length) made.append(element("p", `set aside: ${quarantined.join(", ")}`));
  if (batch.state === "done") {
    made.append(button("CSV", () => take(batch, "rows", "text/csv", "csv")));
    made.append(button("Parquet", () => take(batch, "rows", "application/vnd.apache.parquet", "parquet")));
    if (batch.overlay && batch.sources.length === 1) made.append(button("Video with trajectory", () => take(batch, "overlay", "video/mp4", "mp4")));
  }
  if (!FINAL.includes(batch.state)) made.append(button("Cancel", () => api(`/v1/batches/${batch.id}`, { method: "DELETE" }).then(look)));
  return made;
}

function button(text, work) {
  return element("button", text, { type: "button", className: "small", onclick: () => work().catch((error) => complain(error.message)) });
}

async function take(batch, what, kind, suffix) {
  const reply = await api(`/v1/batches/${batch.id}/${what}`, { headers: { Accept: kind } });
  download(await reply.arrayBuffer(), kind, `${batch.id}.${suffix}`);
}

export async function startBatch(files, { overlay, model }) {
  const form = new FormData();
  for (const file of files) form.append("clip", file, file.name);
  form.append("overlay", String(overlay));
  if (model) form.append("model", model);
  await api("/v1/batches", { method: "POST", body: form });
  await look();
}

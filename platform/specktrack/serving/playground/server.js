// Talking to the server: the key, problems as errors, and rows as they come.

import { $ } from "./page.js";

export function key() { return sessionStorage.getItem("specktrack-key") || ""; }

export async function api(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const reply = await fetch(path, { ...options, headers });
  if (reply.ok) return reply;
  const problem = await reply.json().catch(() => ({ detail: reply.statusText }));
  if (reply.status === 401 && await askForKey()) return api(path, options);
  const wait = reply.headers.get("Retry-After");
  throw new Error(wait ? `${problem.detail} (try again in ${wait} s)` : problem.detail);
}

export function askForKey() {
  return new Promise((done) => {
    const dialog = $("key-dialog");
    $("key").value = key();
    dialog.addEventListener("close", () => {
      const saved = dialog.returnValue === "save";
      if (saved) sessionStorage.setItem("specktrack-key", $("key").value.trim());
      done(saved);
    }, { once: true });
    dialog.returnValue = "cancel";
    dialog.showModal();
  });
}

export function postClip(clip, model, accept, signal) {
  const form = new FormData();
  form.append("clip", clip.blob, clip.name);
  const query = model ? `?model=${encodeURIComponent(model)}` : "";
  return api(`/v1/annotate${query}`, { method: "POST", body: form, headers: { Accept: accept }, signal });
}

// Rows of a clip as they become final; `tell` hears {done, frames, left_s}.
export async function annotate(clip, model, signal, tell) {
  const reply = await postClip(clip, model, "application/x-ndjson", signal);
  const answer = { rows: [] };
  for await (const line of lines(reply.body)) {
    if (!("event" in line)) answer.rows.push(line);
    else if (line.event === "problem") throw new Error(line.detail);
    else if (line.event === "progress") tell(line);
    else { const { event, ...facts } = line; Object.assign(answer, facts); }
  }
  if (answer.decode_errors === undefined) throw new Error("The answer broke off; try again.");
  return answer;
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split("\n");
    rest = pieces.pop();
    for (const piece of pieces) yield JSON.parse(piece);
  }
}

export function streamUrl(model, query = {}) {
  const asked = new URLSearchParams({ ...(model ? { model } : {}), ...query });
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream?${asked}`;
}

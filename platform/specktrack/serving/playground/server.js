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

export function postClip(clip, asked, accept, signal) {
  const form = new FormData();
  form.append("clip", clip.blob, clip.name);
  return api(`/v1/annotate?${new URLSearchParams(asked)}`, { method: "POST", body: form, headers: { Accept: accept }, signal });
}

// Rows of a clip as they become final; `asked` is the query: model, prompt and so on; `sent` hears the share of the clip that has gone, `tell` {done, frames, left_s}.
export async function annotate(clip, asked, signal, sent, tell) {
  const answer = { rows: [] };
  let rest = "", fault = null;
  const take = (line) => {
    if (!("event" in line)) answer.rows.push(line);
    else if (line.event === "problem") fault = line.detail;
    else if (line.event === "progress") tell(line);
    else { const { event, ...facts } = line; Object.assign(answer, facts); }
  };
  const form = new FormData();
  form.append("clip", clip.blob, clip.name);
  const reply = await post(`/v1/annotate?${new URLSearchParams(asked)}`, form, "application/x-ndjson", signal, sent, (text) => {
    const pieces = (rest + text).split("\n");
    rest = pieces.pop();
    pieces.forEach((piece) => take(JSON.parse(piece)));
  });
  if (reply.status === 401 && await askForKey()) return annotate(clip, asked, signal, sent, tell);
  if (reply.status !== 200) throw new Error(JSON.parse(reply.responseText).detail);
  if (fault || answer.decode_errors === undefined) throw new Error(fault || "The response was cut off; try again.");
  return answer;
}

// A request that is told of while it goes, which fetch cannot: its body's share, and the answer's text as it comes.
function post(path, body, accept, signal, sent, more) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    let read = 0;
    const take = () => {
      if (request.status !== 200) return;
      more(request.responseText.slice(read));
      read = request.responseText.length;
    };
    request.open("POST", path);
    request.setRequestHeader("Accept", accept);
    if (key()) request.setRequestHeader("Authorization", `Bearer ${key()}`);
    request.upload.onprogress = ({ loaded, total }) => sent(total ? loaded / total : 1);
    request.onprogress = take;
    request.onload = () => { take(); done(request); };
    request.onerror = () => failed(new Error("The connection was lost; try again."));
    request.onabort = () => failed(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

export function streamUrl(model, query = {}) {
  const asked = new URLSearchParams({ ...(model ? { model } : {}), ...query });
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream?${asked}`;
}

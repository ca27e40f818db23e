// Results that stay: each has an address (#result=...), and is found again after a reload, in this browser.

import { element } from "./page.js";

const MOST = 12;

function store() {
  return new Promise((done, failed) => {
    const request = indexedDB.open("specktrack", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("results", { keyPath: "id" });
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
}

async function run(mode, work) {
  const results = (await store()).transaction("results", mode).objectStore("results");
  return new Promise((done, failed) => {
    const request = work(results);
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
}

export async function keep(clip, answer) {
  const id = `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 6)}`;
  try {
    await run("readwrite", (results) => results.put({ id, clip, answer }));
    for (const old of (await run("readonly", (results) => results.getAllKeys())).sort().slice(0, -MOST)) {
      await run("readwrite", (results) => results.delete(old));
    }
  } catch {  // a private window, or no room: the result is shown all the same
    return "";
  }
  history.replaceState(null, "", `#result=${id}`);
  return id;
}

export async function update(id, answer) {
  if (!id) return;
  const found = await find(id);
  if (found) await run("readwrite", (results) => results.put({ ...found, answer }));
}

export const find = (id) => run("readonly", (results) => results.get(id)).catch(() => undefined);

export const addressed = () => new URLSearchParams(location.hash.slice(1)).get("result");

export function forget() { history.replaceState(null, "", location.pathname); }

export async function list(into, open) {
  const all = await run("readonly", (results) => results.getAll()).catch(() => []);
  const items = all.sort((one, other) => (one.id < other.id ? 1 : -1)).map(({ id, clip, answer }) => {
    const seen = answer.rows.filter((row) => row.x !== null).length;
    const item = element("li", "");
    item.append(
      element("a", clip.name, { href: `#result=${id}`, onclick: (event) => { event.preventDefault(); open(id); } }),
      element("span", ` ${seen} of ${answer.rows.length} frames, ${answer.model}`));
    return item;
  });
  into.replaceChildren(...items);
  into.parentElement.hidden = !items.length;
}

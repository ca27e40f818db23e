// What all parts of the page share: its elements, what is shown, and the three states it can be in.

export const $ = (id) => document.getElementById(id);

export const shown = {
  clip: null,      // {blob, name}: what was sent; a camera has no blob
  answer: null,    // {video, model, width, height, fps, rows, seconds}
  current: 0,      // index into answer.rows
  turn: 0,         // counts what was opened: whoever waited meanwhile finds another number, and leaves all as it is
};

export function state(name) {  // empty, working, done or live
  document.body.dataset.state = name;
  $("welcome").hidden = name !== "empty";
  $("screen").hidden = name === "empty";
  $("working").hidden = name !== "working";
  $("transport").hidden = name !== "done";
  $("side").hidden = $("chart").hidden = name !== "done";
  $("badge").hidden = $("live-bar").hidden = name !== "live";
  $("get-parquet").hidden = $("correct-card").hidden = name === "live";
  if (name !== "empty") complain("");
  const overlay = $("overlay");
  overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
}

export function complain(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

export function element(kind, text, attributes = {}) {
  const made = document.createElement(kind);
  made.textContent = text;
  Object.assign(made, attributes);
  return made;
}

export function download(content, type, name) {
  const link = element("a", "", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function stem(name) { return name.replace(/\.[^.]*$/, ""); }

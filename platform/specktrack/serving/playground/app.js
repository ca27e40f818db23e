// The playground: a clip or a camera goes to this server, rows come back and are drawn over the picture.

const $ = (id) => document.getElementById(id);
const video = $("video"), overlay = $("overlay");
const TAIL_FRAMES = 24;
const COLOURS = { trail: "#3ee6a8", ball: "#ffe15a", x: "#63b3ff", y: "#ff7a90", filled: "#c792ff" };

let clip = null;      // {blob, name}: what was sent
let answer = null;    // {width, height, fps, rows}
let current = 0;      // index into answer.rows
let request = null;   // AbortController of the answer that is waited for
let camera = null;    // {stream, socket}
let turn = 0;         // counts what was opened: whoever waited meanwhile finds another number, and leaves all as it is

// ---- talking to the server

function key() { return sessionStorage.getItem("specktrack-key") || ""; }

async function api(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const reply = await fetch(path, { ...options, headers });
  if (reply.ok) return reply;
  const problem = await reply.json().catch(() => ({ detail: reply.statusText }));
  if (reply.status === 401 && await askForKey()) return api(path, options);
  const wait = reply.headers.get("Retry-After");
  throw new Error(wait ? `${problem.detail} (try again in ${wait} s)` : problem.detail);
}

function askForKey() {
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

async function loadModels() {
  const models = await (await api("/v1/models")).json();
  $("model").replaceChildren(...models.filter((each) => !each.takes_prompt).map((each) => {
    const option = new Option(each.name, each.name);
    option.title = each.description || `${(each.parameters / 1e6).toFixed(1)} M parameters`;
    return option;
  }));
}

// ---- a clip

async function open(blob, name) {
  const mine = begin();
  clip = { blob, name };
  state("working");
  URL.revokeObjectURL(video.src);
  video.src = URL.createObjectURL(blob);
  const started = performance.now();
  const timer = setInterval(() => {
    $("working-text").textContent = `Following the object, ${((performance.now() - started) / 1000).toFixed(0)} s`;
  }, 500);
  try {
    const reply = await annotate("application/json", $("model").value);
    const said = await reply.json();
    if (mine !== turn) return;
    answer = { ...said, seconds: (performance.now() - started) / 1000 };
    state("done");
    show();
  } catch (error) {
    if (mine !== turn) return;
    state("empty");
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    clearInterval(timer);
  }
}

function begin() {  // nothing of what was open before goes on
  if (request) request.abort();
  stopCamera();
  answer = clip = null;
  turn += 1;
  return turn;
}

function annotate(accept, model) {
  const form = new FormData();
  form.append("clip", clip.blob, clip.name);
  request = new AbortController();
  const query = model ? `?model=${encodeURIComponent(model)}` : "";
  return api(`/v1/annotate${query}`, {
    method: "POST", body: form, headers: { Accept: accept }, signal: request.signal,
  });
}

function show() {
  const found = answer.rows.filter((row) => row.x !== null);
  const score = found.reduce((sum, row) => sum + row.score, 0) / (found.length || 1);
  $("summary").replaceChildren(
    bold(found.length), ` of ${answer.rows.length} frames with the object, mean score `, bold(score.toFixed(2)),
    `, by ${answer.model} in `, bold(`${answer.seconds.toFixed(1)} s`));
  video.style.aspectRatio = `${answer.width} / ${answer.height}`;  // also where this browser cannot play the clip
  tellIfUnplayable();
  $("scrub").max = answer.rows.length - 1;
  current = Math.max(0, answer.rows.findIndex((row) => row.x !== null));
  resize();
  seek(current);
}

function tellIfUnplayable() {
  $("play").disabled = Boolean(video.error);
  if (video.error && answer) complain("This browser cannot play this clip, so its trajectory is drawn on black.");
}

function bold(text) {
  const element = document.createElement("b");
  element.textContent = text;
  return element;
}

// ---- time: a frame is known by its presentation time, never by a rate

function frameAt(time) {
  const rows = answer.rows, first = rows[0].pts_s, half = 0.5 / (answer.fps || 30);
  let low = 0, high = rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].pts_s - first <= time + half / 2) low = middle; else high = middle - 1;
  }
  return low;
}

function seek(index) {
  if (!answer) return;
  current = Math.min(Math.max(index, 0), answer.rows.length - 1);
  const half = 0.25 / (answer.fps || 30);
  video.currentTime = answer.rows[current].pts_s - answer.rows[0].pts_s + half;
  draw();
}

function follow(_, frame) {
  if (answer && !camera && !video.paused) {
    current = frameAt(frame ? frame.mediaTime : video.currentTime);
    draw();
  }
  watch();
}

function watch() {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(follow);
  else requestAnimationFrame(() => follow());
}

// ---- drawing

function resize() {
  for (const canvas of [overlay, $("strip"), $("plot"), $("loupe")]) {
    const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
  }
  if (answer && !camera) { drawStrip(); draw(); }
}

function placement() {  // how source px lie on the overlay: the video is letterboxed in its box
  const scale = Math.min(overlay.width / answer.width, overlay.height / answer.height);
  return { scale, left: (overlay.width - answer.width * scale) / 2, top: (overlay.height - answer.height * scale) / 2 };
}

function draw() {
  const row = answer.rows[current];
  drawOverlay(answer.rows.slice(Math.max(0, current - TAIL_FRAMES), current + 1));
  drawLoupe(row);
  drawPlot();
  $("scrub").value = current;
  $("clock").textContent = `${row.pts_s.toFixed(2)} s · ${row.frame}`;
  const said = row.x === null ? [["object", "absent"], ["score", row.score.toFixed(3)]] : [
    ["x", `${row.x.toFixed(1)} px`], ["y", `${row.y.toFixed(1)} px`], ["score", row.score.toFixed(3)],
    ["found by", row.provenance], ["speed", speed()]];
  $("facts").replaceChildren(...said.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function speed() {
  const now = answer.rows[current], before = answer.rows[current - 1];
  if (!before || before.x === null || now.pts_s <= before.pts_s) return "–";
  return `${Math.round(Math.hypot(now.x - before.x, now.y - before.y) / (now.pts_s - before.pts_s))} px/s`;
}

function drawOverlay(tail) {
  const context = overlay.getContext("2d"), { scale, left, top } = placement();
  const at = (row) => [left + (row.x + 0.5) * scale, top + (row.y + 0.5) * scale];
  context.clearRect(0, 0, overlay.width, overlay.height);
  context.lineCap = "round";
  for (let i = 1; i < tail.length; i++) {
    if (tail[i].x === null || tail[i - 1].x === null) continue;
    context.globalAlpha = (i / tail.length) ** 1.5;
    context.strokeStyle = tail[i].gap ? COLOURS.filled : COLOURS.trail;
    context.lineWidth = (1.5 + 2.5 * i / tail.length) * (devicePixelRatio || 1);
    context.beginPath();
    context.moveTo(...at(tail[i - 1]));
    context.lineTo(...at(tail[i]));
    context.stroke();
  }
  context.globalAlpha = 1;
  const row = tail.at(-1);
  if (!row || row.x === null) return;
  const [x, y] = at(row), radius = 11 * (devicePixelRatio || 1);
  context.strokeStyle = COLOURS.ball;
  context.lineWidth = 2.2 * (devicePixelRatio || 1);
  context.shadowColor = "#000";
  context.shadowBlur = 6;
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.stroke();
  context.shadowBlur = 0;
}

function drawLoupe(row) {
  const canvas = $("loupe"), context = canvas.getContext("2d"), zoom = Number($("zoom").value);
  $("zoom-text").textContent = `${zoom}×`;
  context.fillStyle = "#05080c";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const centre = row.x === null ? lastSeen() : row;
  if (!centre || video.readyState < 2) return;
  const ratio = devicePixelRatio || 1, width = canvas.width / (zoom * ratio), height = canvas.height / (zoom * ratio);
  const sx = video.videoWidth / answer.width, sy = video.videoHeight / answer.height;
  context.imageSmoothingEnabled = false;
  context.drawImage(video, (centre.x + 0.5 - width / 2) * sx, (centre.y + 0.5 - height / 2) * sy, width * sx, height * sy,
    0, 0, canvas.width, canvas.height);
  context.strokeStyle = row.x === null ? "#ffffff55" : COLOURS.ball;
  context.lineWidth = ratio;
  const x = canvas.width / 2, y = canvas.height / 2, gap = 10 * ratio, arm = 26 * ratio;
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + dx * gap, y + dy * gap);
    context.lineTo(x + dx * arm, y + dy * arm);
  }
  context.stroke();
}

function lastSeen() {
  for (let i = current; i >= 0; i--) if (answer.rows[i].x !== null) return answer.rows[i];
  return null;
}

function drawStrip() {
  const canvas = $("strip"), context = canvas.getContext("2d"), n = answer.rows.length;
  context.clearRect(0, 0, canvas.width, canvas.height);
  answer.rows.forEach((row, i) => {
    context.fillStyle = row.x === null ? "#ffffff10" : row.gap ? COLOURS.filled : COLOURS.trail;
    context.globalAlpha = row.x === null ? 1 : 0.25 + 0.75 * row.score;
    context.fillRect(Math.floor(i / n * canvas.width), 0, Math.ceil(canvas.width / n), canvas.height);
  });
  context.globalAlpha = 1;
}

function drawPlot() {
  const canvas = $("plot"), context = canvas.getContext("2d"), n = answer.rows.length;
  const across = (i) => n < 2 ? 0 : i / (n - 1) * (canvas.width - 2) + 1;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#3ee6a826";
  answer.rows.forEach((row, i) => {
    const high = row.score * canvas.height;
    context.fillRect(across(i), canvas.height - high, Math.max(1, canvas.width / n), high);
  });
  for (const [name, size] of [["x", answer.width], ["y", answer.height]]) {
    context.strokeStyle = COLOURS[name];
    context.lineWidth = 1.6 * (devicePixelRatio || 1);
    context.beginPath();
    let drawing = false;
    answer.rows.forEach((row, i) => {
      if (row[name] === null) { drawing = false; return; }
      const y = 4 + row[name] / size * (canvas.height - 8);
      if (drawing) context.lineTo(across(i), y); else context.moveTo(across(i), y);
      drawing = true;
    });
    context.stroke();
  }
  context.fillStyle = "#fff";
  context.fillRect(across(current) - 0.5, 0, 1.5, canvas.height);
}

// ---- rows to take away

function csv() {
  const names = Object.keys(answer.rows[0]);
  return [names.join(","), ...answer.rows.map((row) => names.map((name) => row[name] ?? "").join(","))].join("\n") + "\n";
}

function download(content, type, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = `${clip.name.replace(/\.[^.]*$/, "")}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function downloadParquet() {
  const mine = turn;
  $("get-parquet").disabled = true;
  try {
    const reply = await annotate("application/vnd.apache.parquet", answer.model);  // that of the rows on this page
    if (mine === turn) download(await reply.arrayBuffer(), "application/vnd.apache.parquet", "parquet");
  } catch (error) {
    if (mine === turn) complain(error.message);
  } finally {
    $("get-parquet").disabled = false;
  }
}

// ---- the camera

async function startCamera() {
  const mine = begin();
  complain("");
  if (!navigator.mediaDevices) {
    complain("Browsers hand the camera only to pages that come over https or from localhost.");
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, frameRate: { ideal: 30 } } });
  } catch (error) {
    if (mine === turn) complain(`No camera: ${error.message}`);
    return;
  }
  const leave = () => stream.getTracks().forEach((track) => track.stop());
  if (mine !== turn) { leave(); return; }
  state("live");
  video.style.aspectRatio = "";
  video.srcObject = stream;
  await video.play().catch(() => {});  // what is opened meanwhile interrupts it
  if (mine !== turn) { leave(); video.srcObject = null; return; }
  const query = $("model").value ? `?model=${encodeURIComponent($("model").value)}` : "";
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream${query}`;
  const socket = new WebSocket(url, key() ? [`bearer.${key()}`] : []);
  camera = { stream, socket, sent: 0, taken: 0 };
  answer = { width: video.videoWidth, height: video.videoHeight, fps: 30, rows: [], model: $("model").value };
  clip = { name: "camera.mp4", blob: null };
  resize();
  socket.onmessage = ({ data }) => hear(JSON.parse(data));
  socket.onclose = ({ code }) => { if (code !== 1000) { complain("The stream ended."); stopCamera(); } };
  socket.onopen = () => sendFrame(document.createElement("canvas"), camera);
}

function sendFrame(canvas, own) {
  if (camera !== own) return;
  const again = () => (video.requestVideoFrameCallback ? video.requestVideoFrameCallback.bind(video) : requestAnimationFrame)(() => sendFrame(canvas, own));
  if (own.sent - own.taken > 12) { setTimeout(() => sendFrame(canvas, own), 15); return; }  // never far ahead of the server
  canvas.width = answer.width;
  canvas.height = answer.height;
  canvas.getContext("2d").drawImage(video, 0, 0);
  own.sent += 1;
  canvas.toBlob((blob) => {
    if (blob && own.socket.readyState === WebSocket.OPEN) own.socket.send(blob);
    again();
  }, "image/jpeg", 0.85);
}

function hear(said) {
  if (said.problem) { complain(said.problem.detail); stopCamera(); return; }
  camera.taken = said.frames;
  if (!said.rows.length) return;
  answer.rows.push(...said.rows);
  if (answer.rows.length > 600) answer.rows.splice(0, answer.rows.length - 600);
  current = answer.rows.length - 1;
  $("side").hidden = $("chart").hidden = false;
  if (answer.rows.length === said.rows.length) resize();
  $("summary").textContent = `${said.frames} frames followed`;
  draw();
}

function stopCamera() {
  if (!camera) return;
  camera.stream.getTracks().forEach((track) => track.stop());
  camera.socket.onmessage = camera.socket.onclose = null;  // what is still on its way
  camera.socket.close(1000);
  camera = null;
  video.srcObject = null;
  state("empty");
}

// ---- the page

function state(name) {
  document.body.dataset.state = name;
  $("welcome").hidden = name !== "empty";
  $("screen").hidden = name === "empty";
  $("working").hidden = name !== "working";
  $("transport").hidden = name !== "done";
  $("side").hidden = $("chart").hidden = name !== "done";
  $("badge").hidden = name !== "live";
  $("get-parquet").hidden = name === "live";
  if (name !== "empty") complain("");
  overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
}

function complain(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

function toggle() { if (video.paused) video.play().catch(() => {}); else video.pause(); }

$("choose").onclick = () => $("file").click();
$("file").onchange = () => { const [file] = $("file").files; if (file) open(file, file.name); $("file").value = ""; };
$("sample").onclick = async () => {
  try { await open(await (await fetch("/playground/sample.mp4")).blob(), "sample.mp4"); } catch (error) { complain(error.message); }
};
$("live").onclick = startCamera;
$("stop").onclick = () => request && request.abort();
$("again").onclick = () => { video.pause(); begin(); state("empty"); };
$("play").onclick = toggle;
$("back").onclick = () => { video.pause(); seek(current - 1); };
$("forward").onclick = () => { video.pause(); seek(current + 1); };
$("speed").onchange = () => { video.playbackRate = Number($("speed").value); };
$("scrub").oninput = () => { video.pause(); seek(Number($("scrub").value)); };
$("zoom").oninput = () => answer && draw();
$("plot").onclick = (event) => {
  const box = $("plot").getBoundingClientRect();
  if (!camera) { video.pause(); seek(Math.round((event.clientX - box.left) / box.width * (answer.rows.length - 1))); }
};
$("get-csv").onclick = () => download(csv(), "text/csv", "csv");
$("get-json").onclick = () => download(JSON.stringify(answer, null, 1), "application/json", "json");
$("get-parquet").onclick = downloadParquet;
$("key-button").onclick = async () => { if (await askForKey()) loadModels().catch((error) => complain(error.message)); };
video.onplay = () => { $("play").textContent = "Pause"; };
video.onpause = () => { $("play").textContent = "Play"; };
video.onseeked = video.onloadeddata = () => answer && !camera && draw();
video.onerror = tellIfUnplayable;
// The whole window takes a drop: beside the stage the browser would leave this page for the file.
addEventListener("dragover", (event) => { event.preventDefault(); $("stage").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("stage").classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) open(file, file.name);
});
addEventListener("keydown", (event) => {
  if (!answer || camera || /INPUT|SELECT|BUTTON/.test(event.target.tagName)) return;
  if (event.code === "Space") { event.preventDefault(); toggle(); }
  if (event.code === "ArrowLeft") { video.pause(); seek(current - 1); }
  if (event.code === "ArrowRight") { video.pause(); seek(current + 1); }
});
addEventListener("resize", resize);
new ResizeObserver(resize).observe($("screen"));
watch();
loadModels().catch((error) => complain(error.message));

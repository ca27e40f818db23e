// The live camera: its newest pictures go to the server, and each row is drawn on the picture that it is of.

import { $, complain, element, shown, state } from "./page.js";
import { key, streamUrl } from "./server.js";

const video = $("video");
const KEPT_PICTURES = 90, KEPT_ROWS = 36000;
let camera = null;  // {stream, socket, sent, pictures, rows}

export const isLive = () => camera !== null;

export async function listCameras() {
  if (!navigator.mediaDevices) return;
  const found = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  $("camera").hidden = found.length < 2;
  $("camera").replaceChildren(...found.map(({ deviceId, label }, i) => new Option(label || `Camera ${i + 1}`, deviceId)));
}

export async function startCamera(mine, draw) {
  if (!navigator.mediaDevices) {
    complain("Browsers only allow camera access on pages served over https or from localhost.");
    return;
  }
  const chosen = $("camera").value ? { deviceId: { exact: $("camera").value } } : {};
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, frameRate: { ideal: 30 }, ...chosen } });
  } catch (error) {
    if (mine === shown.turn) complain(`No camera: ${error.message}`);
    return;
  }
  const leave = () => stream.getTracks().forEach((track) => track.stop());
  if (mine !== shown.turn) { leave(); return; }
  state("live");
  video.style.aspectRatio = "";
  video.srcObject = stream;
  await video.play().catch(() => {});  // what is opened meanwhile interrupts it
  if (mine !== shown.turn) { leave(); video.srcObject = null; return; }
  const model = $("model").value;
  const socket = new WebSocket(streamUrl(model, { drop: "newest", provisional: "true" }), key() ? [`bearer.${key()}`] : []);
  camera = { stream, socket, sent: 0, pictures: new Map(), rows: new Map() };
  shown.answer = { width: video.videoWidth, height: video.videoHeight, fps: 30, rows: [], model };
  shown.clip = { name: "camera.mp4", blob: null };
  socket.onmessage = ({ data }) => hear(JSON.parse(data), draw);
  socket.onclose = ({ code }) => { if (code !== 1000) { stopCamera(); state("empty"); complain("The stream ended."); } };
  socket.onopen = () => send(element("canvas", ""), camera);
  listCameras();
}

// Every picture is sent: the server takes the newest of those that wait for it.
function send(canvas, own) {
  if (camera !== own) return;
  const soon = video.requestVideoFrameCallback ? video.requestVideoFrameCallback.bind(video) : requestAnimationFrame;
  canvas.width = shown.answer.width;
  canvas.height = shown.answer.height;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(async (blob) => {
    if (blob && own.socket.readyState === WebSocket.OPEN && own.socket.bufferedAmount < 4e6) {
      const number = own.sent++;
      own.socket.send(blob);
      own.pictures.set(number, await createImageBitmap(canvas));
      for (const old of [...own.pictures.keys()].slice(0, -KEPT_PICTURES)) { own.pictures.get(old).close(); own.pictures.delete(old); }
    }
    soon(() => send(canvas, own));
  }, "image/jpeg", 0.85);
}

function hear(said, draw) {
  if (said.problem) { stopCamera(); state("empty"); complain(said.problem.detail); return; }
  for (const { final, ...row } of said.rows) camera.rows.set(row.frame, row);
  for (const old of [...camera.rows.keys()].slice(0, -KEPT_ROWS)) camera.rows.delete(old);
  const lag = said.lag_s === null ? "–" : `${said.lag_s.toFixed(2)} s`;
  $("live-text").textContent = `${lag} behind, ${said.dropped} of ${said.frames} pictures dropped`;
  $("summary").textContent = `${said.frames - said.dropped} frames followed`;
  if (!said.rows.length) return;
  const rows = [...camera.rows.values()].slice(-600);
  shown.answer.rows = rows;
  shown.current = rows.length - 1;
  showPicture(camera.pictures.get(rows.at(-1).frame));
  $("side").hidden = $("chart").hidden = false;
  draw();
}

function showPicture(picture) {  // the one that the row is of: the camera is ahead of it
  const still = $("still");
  if (!picture) return;
  still.hidden = false;
  still.width = picture.width;
  still.height = picture.height;
  still.getContext("2d").drawImage(picture, 0, 0);
}

// Ends the stream; the rows that came, or null where there was none.
export function stopCamera() {
  if (!camera) return null;
  const { stream, socket, rows } = camera;
  stream.getTracks().forEach((track) => track.stop());
  socket.onmessage = socket.onclose = null;  // what is still on its way
  socket.close(1000);
  camera = null;
  video.srcObject = null;
  $("still").hidden = true;
  return [...rows.values()];
}

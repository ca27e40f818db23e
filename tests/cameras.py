"""Cameras for tests: one that sends JPEG pictures over HTTP, and one that speaks RTSP."""

import io
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np
from PIL import Image

WH = (64, 48)


def picture(number: int) -> np.ndarray:
    """uint8 [H, W, 3]: a bright square that moves."""
    pixels = np.full((WH[1], WH[0], 3), 60, np.uint8)
    left = 4 + 3 * number % 40
    pixels[20:26, left : left + 6] = 240
    return pixels


def jpeg(number: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(picture(number)).save(sink, "JPEG")
    return sink.getvalue()


class HttpCamera(ThreadingHTTPServer):
    """Sends ``pictures`` pictures per connection, one every ``pause_s``, and then breaks off; later it sends none."""

    daemon_threads = True

    def __init__(self, *, pictures: int, pause_s: float = 0.0, connections: int = 1000) -> None:
        super().__init__(("127.0.0.1", 0), _Multipart)
        self.pictures, self.pause_s, self.most, self.connections = pictures, pause_s, connections, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/video"


class _Multipart(BaseHTTPRequestHandler):
    server: HttpCamera

    def do_GET(self) -> None:
        self.server.connections += 1
        if self.path == "/gone" or self.server.connections > self.server.most:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(self.server.pictures):
            data = jpeg(number)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            try:
                self.wfile.write(head + data + b"\r\n")
            except OSError:  # whoever watched has gone
                return
            time.sleep(self.server.pause_s)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class RtspCamera(socketserver.ThreadingTCPServer):
    """Plays one MPEG transport stream over the RTSP connection; ``leads_to`` sends the client elsewhere instead."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, *, leads_to: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Rtsp)
        self.leads_to, self.stream = leads_to, transport_stream(30)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"rtsp://user:word@127.0.0.1:{self.server_address[1]}/court"


class _Rtsp(socketserver.StreamRequestHandler):
    server: RtspCamera

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            headers = dict(iter(lambda: tuple(self.rfile.readline().decode().strip().lower().split(": ", 1)), ("",)))
            method = line.split()[0]
            self.server.asked.append(line.strip())
            if method == "DESCRIBE" and self.server.leads_to:
                self._say(headers["cseq"], "302 Moved", f"Location: {self.server.leads_to}")
            elif method == "DESCRIBE":
                text = (
                    "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=court\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
                )
                self._say(headers["cseq"], "200 OK", "Content-Type: application/sdp", body=text)
            elif method == "SETUP":
                self._say(headers["cseq"], "200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1")
            else:
                self._say(headers["cseq"], "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY", "Session: 1")
                if method == "PLAY":
                    self._play()
                    return

    def _say(self, number: str, status: str, *headers: str, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *headers, f"Content-Length: {len(body)}", "", body]
        self.wfile.write("\r\n".join(lines).encode())

    def _play(self) -> None:
        size = 7 * 188
        for number, start in enumerate(range(0, len(self.server.stream), size)):
            packet = (
                struct.pack(">BBHII", 0x80, 33, number, number * 3000, 1) + self.server.stream[start : start + size]
            )
            try:
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            except OSError:  # whoever watched has gone
                return


def transport_stream(pictures: int) -> bytes:
    """MPEG-2 video of ``pictures`` pictures."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *WH, "yuv420p", 2_000_000
        for number in range(pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    return sink.getvalue()


@contextmanager
def running(server: Any) -> Iterator[Any]:
    """A server at work in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()

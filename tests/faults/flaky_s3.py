"""A proxy before an S3 server that does what S3 does at times: slow-downs, resets, cut or changed bodies, an outage."""

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Flaky(BaseHTTPRequestHandler):
    """Passes requests on, or answers them as the draw says."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    draw = random.Random(0)
    slow_down = reset = short = 0.0
    outage: tuple[float, float] = (0.0, 0.0)
    """Begin and end on the monotonic clock."""
    seen: Counter[str]
    body_bytes_per_s = 0
    """How fast request bodies are taken; 0 is as fast as they come."""
    corrupt = ""
    """One byte of each body is changed that is read from a path with this in it."""
    tries: Counter[str]
    """Per request: how many in a row were answered badly, and the next one; those in the outage left out."""
    failed: Counter[str]

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self._body(length)
        lot = self.draw.random()
        if self.outage[0] <= time.monotonic() < self.outage[1]:
            self._drop("outage")
            return
        request = f"{self.command} {self.path} {self.headers.get('Range')}"
        self.tries[request] = max(self.tries[request], self.failed[request] + 1)
        self.failed[request] = self.failed[request] + 1 if lot < self.slow_down + self.reset + self.short else 0
        if lot < self.slow_down:
            self.seen["slow_down"] += 1
            self._reply(503, {}, SLOW_DOWN)
        elif lot < self.slow_down + self.reset:
            self._drop("reset")
        else:
            status, headers, answer = self._pass_on(body)
            cut = self.command == "GET" and len(answer) > 1 and lot < self.slow_down + self.reset + self.short
            self._reply(status, headers, self._changed(answer), cut=cut)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def _changed(self, answer: bytes) -> bytes:
        if not (self.corrupt and self.corrupt in self.path and self.command == "GET" and answer):
            return answer
        self.seen["corrupt"] += 1
        at = self.draw.randrange(len(answer))
        return answer[:at] + bytes([answer[at] ^ 1 << self.draw.randrange(8)]) + answer[at + 1 :]

    def _body(self, length: int) -> bytes:
        parts = []
        while length > 0:
            part = self.rfile.read(min(length, 2**16))
            if not part:
                break
            parts.append(part)
            length -= len(part)
            if self.body_bytes_per_s:
                time.sleep(len(part) / self.body_bytes_per_s)
        return b"".join(parts)

    def _pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=30)
        headers = {name: text for name, text in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), answer

    def _reply(self, status: int, headers: dict[str, str], answer: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, text in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, text)
        length = headers.get("Content-Length") or headers.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer[: len(answer) // 2] if cut else answer)
        if cut:
            self._drop("short")

    def _drop(self, why: str) -> None:
        self.seen[why] += 1
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed, or that we dropped."""


@contextmanager
def flaky_s3(upstream: str, **faults: object) -> Iterator[tuple[str, Counter[str], type[Flaky]]]:
    """URL of a proxy with these faults, what it did so far, and its handler, whose faults may be changed."""
    seen: Counter[str] = Counter()
    own = {"upstream": upstream, "seen": seen, "draw": random.Random(1), "tries": Counter(), "failed": Counter()}
    handler = type("Handler", (Flaky,), {**own, **faults})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen, handler
        finally:
            server.shutdown()
            thread.join()

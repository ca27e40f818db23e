"""Cameras: RTSP and HTTP addresses and local devices, picture by picture.

The caller resolves a name once, and FFmpeg is connected to the checked address. Over HTTP it gets the bytes of a
connection made here. For RTSP it connects to a port of this machine that leads only to the camera, and a camera that
redirects elsewhere is not followed. If a camera falls silent, it is connected again.
"""

import contextlib
import http.client
import io
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import av
from av.container import InputContainer

from specktrack import telemetry
from specktrack.errors import ConfigError, StorageError

SCHEMES = {"rtsp": 554, "http": 80, "https": 443}
"""Of camera addresses, with their ports."""
DEVICES = "/dev/"
NEWEST = 8
"""Pictures that wait where older ones are dropped: what is followed comes in runs, for windows see motion in them."""
STALL_S = 15.0
"""Without a byte from a camera for so long, it is connected to again."""
AWAY_S = 120.0
"""A camera that gives no picture for so long, through all attempts, is given up."""
PAUSES_S = (0.5, 1.0, 2.0, 5.0)
"""Before one attempt and the next; the last goes on."""
JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
_ELSEWHERE = re.compile(rb"RTSP/\S*\s+[+0]*3\d\d")
"""A status line that sends the client to another address."""

log = telemetry.get_logger()


class Target(NamedTuple):
    """A URL whose host was resolved and allowed."""

    url: SplitResult
    host: str
    port: int
    addresses: tuple[str, ...]
    """All that it has; they were checked, and the first that answers is connected to."""

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection to one of the addresses; OSError if none answers."""
        for address in self.addresses:
            try:
                return socket.create_connection((address, self.port), timeout_s)
            except OSError:
                if address == self.addresses[-1]:
                    raise
        raise OSError("a host without an address")


def target_of(place: str) -> Target | None:
    """The camera that a person names for himself; None for a device. ConfigError for what is neither, or not there."""
    if place.startswith(DEVICES):
        return None
    try:
        url = urlsplit(place)
        port = url.port or SCHEMES[url.scheme]
        found = socket.getaddrinfo(url.hostname or "", port, type=socket.SOCK_STREAM)
    except (KeyError, ValueError):
        what, remedy = "not a camera", f"name a {', '.join(SCHEMES)} address or a device such as /dev/video0"
        raise ConfigError(what, place, remedy=remedy) from None
    except (OSError, UnicodeError):
        raise ConfigError("no such host", url.hostname, remedy="check the address") from None
    return Target(url, url.hostname or "", port, tuple(str(info[4][0]) for info in found))


class Pinned(http.client.HTTPConnection):
    """Connects to an address that was checked; the name is used for TLS and the Host header only."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout_s)
        self._target, self._timeout_s = target, timeout_s

    def connect(self) -> None:
        """As of HTTPConnection."""
        self.sock = self._target.connect(self._timeout_s)
        if self._target.url.scheme == "https":
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self._target.host)


class Camera:
    """One live source. Pictures come as JPEG: a camera's own where it sends those, else one made of each frame."""

    def __init__(self, place: str, target: Target | None) -> None:
        """``target`` is where an address leads; a device has none."""
        self._place, self._target = place, target
        self._name = target.host if target else place  # a URL may hold a password
        self._ended = threading.Event()
        self.connections = 0

    def close(self) -> None:
        """No more pictures: whoever waits for one gets the end, within STALL_S."""
        self._ended.set()

    def pictures(self) -> Iterator[bytes]:
        """Encoded pictures until ``close``; StorageError if the camera cannot be reached, or stays away."""
        seen_s, failed = time.monotonic(), 0
        while not self._ended.is_set():
            what = "the stream ended"
            try:
                with self._opened() as container:
                    self.connections += 1
                    for picture in _encoded(container):
                        if self._ended.is_set():
                            return
                        yield picture
                        seen_s, failed = time.monotonic(), 0
            except (OSError, http.client.HTTPException, av.FFmpegError) as error:
                what = getattr(error, "strerror", None) or type(error).__name__  # its text holds the URL
            if not self.connections or time.monotonic() - seen_s > AWAY_S:
                raise StorageError("the camera sends no picture", what, self._name, "check that it is on")
            log.warning("camera away", camera=self._name, error=what, attempt=failed + 1)
            self._ended.wait(PAUSES_S[min(failed, len(PAUSES_S) - 1)])
            failed += 1

    @contextlib.contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        timeouts = (STALL_S, STALL_S)
        if self._target is None:
            with av.open(self._place, format="v4l2", timeout=timeouts) as container:
                yield container
        elif self._target.url.scheme == "rtsp":
            options = {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,tcp"}
            with Relay(self._target) as port:
                user = self._target.url.netloc.rpartition("@")[0]
                place = self._target.url._replace(netloc=f"{user}@127.0.0.1:{port}".lstrip("@")).geturl()
                with av.open(place, format="rtsp", options=options, timeout=timeouts) as container:
                    yield container
        else:
            with self._over_http() as (body, kind), av.open(body, format=kind) as container:
                yield container

    @contextlib.contextmanager
    def _over_http(self) -> Iterator[tuple[Any, str | None]]:
        """The body of the camera's answer as a file, and its format where the answer says it."""
        assert self._target is not None
        connection = Pinned(self._target, STALL_S)
        try:
            path = (self._target.url.path or "/") + (f"?{self._target.url.query}" if self._target.url.query else "")
            connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "specktrack"})
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise OSError(answer.status, f"status {answer.status}")
            several = answer.headers.get_content_type() == "multipart/x-mixed-replace"
            yield _Body(answer), "mpjpeg" if several else None
        finally:
            connection.close()


class _Body:
    """An HTTP body that hands out what has come, not what would fill a buffer."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer = answer

    def read(self, size: int) -> bytes:
        """At least a byte, until the end."""
        return self._answer.read1(size)


class Relay:
    """A port of this machine that leads one connection to a camera's checked address, and to nothing else."""

    def __init__(self, target: Target) -> None:
        self._target, self._listener = target, socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._run, name="camera relay", daemon=True).start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # whoever connected sees an end, and says what that means
            self._listener.settimeout(STALL_S)
            with self._listener.accept()[0] as here, self._target.connect(STALL_S) as there:
                self._pass_on(here, there)

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        other, last = {here: there, there: here}, b""
        while ready := select.select([here, there], [], [], STALL_S)[0]:
            for end in ready:
                if not (data := end.recv(1 << 16)):
                    return
                if end is there:
                    if _ELSEWHERE.search(last + data):
                        log.warning("a camera that redirects elsewhere is not followed", camera=self._target.host)
                        return
                    last = data[-32:]
                other[end].sendall(data)


def _encoded(container: InputContainer) -> Iterator[bytes]:
    video = container.streams.video[0]
    for packet in container.demux(video):
        if video.codec_context.name == "mjpeg":
            if packet.size:
                yield bytes(packet)
            continue
        for frame in packet.decode():
            sink = io.BytesIO()
            frame.to_image().save(sink, **JPEG)
            yield sink.getvalue()

"""The WebSocket: pictures in, rows out.

    client                                       server
    binary: one JPEG or PNG picture
                                                 text: {"frames": 12, "rows": [...], "lag_s": 0.4,
                                                        "behind": 3, "dropped": 0}
    text: {"end": true}
                                                 text: {"frames": 120, "rows": [...], ..., "done": true}
                                                 text: {"problem": {...}}, and the connection is closed

``frames`` were taken or dropped so far, ``behind`` wait, ``dropped`` have no row; ``lag_s`` is the age of the newest
picture that has one, null before the first. Each row says whether it is ``final``. With ``?provisional=true`` rows come
as soon as a window has seen their picture, and again when they are final.

A client that wants to be sure that it is not far ahead waits for ``frames``; with ``?drop=newest`` none has to. With
``?fps=`` frame n has the time n / fps, else the time of its arrival since the first. The query also names the model and
how it is read, or with ``?source=`` a camera that the server watches: then ``end`` is all that the client sends.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from typing import Any, NamedTuple

import pyarrow as pa
from fastapi import WebSocket, WebSocketDisconnect

from specktrack.config import validated
from specktrack.errors import MediaError, QuarantineReason
from specktrack.serving import formats
from specktrack.serving.answers import StreamAsked
from specktrack.serving.gateway import Gateway
from specktrack.serving.problems import Refusal, problem_of
from specktrack.video.live import NEWEST, Camera

MOST_WAITING = 64
"""Pictures that came and are not followed yet; a client that is so far ahead is not read from for a while."""
MOST_WAITING_BYTES = 32_000_000
MOST_AT_ONCE = 16
_CLOSE_CODES = {
    HTTPStatus.SERVICE_UNAVAILABLE: 1013,
    HTTPStatus.INTERNAL_SERVER_ERROR: 1011,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: 1009,
}


class Arrival(NamedTuple):
    """A picture that came."""

    number: int
    at_s: float
    picture: bytes


class Arrivals(asyncio.Queue[Arrival | None]):
    """Queue of waiting pictures, bounded in number and in bytes; None is the end."""

    def __init__(self, *, drops: bool = False) -> None:
        super().__init__(NEWEST if drops else MOST_WAITING)
        self._drops = drops
        self.waiting_bytes = self.came = self.dropped = 0

    def full(self) -> bool:
        """Whether the client is not read from for a while, or the oldest picture makes room."""
        return super().full() or self.waiting_bytes >= MOST_WAITING_BYTES

    async def add(self, picture: bytes) -> None:
        """Take a picture."""
        while self._drops and self.full():
            self.get_nowait()
            self.dropped += 1
        self.came += 1
        await self.put(Arrival(self.came - 1, time.monotonic(), picture))

    def _put(self, item: Arrival | None) -> None:
        self.waiting_bytes += len(item.picture) if item else 0
        super()._put(item)

    def _get(self) -> Arrival | None:
        item: Arrival | None = super()._get()
        self.waiting_bytes -= len(item.picture) if item else 0
        return item


class Told:
    """Times in the messages of a stream."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self._came_s: dict[int, float] = {}  # of pictures whose rows are not final
        self._newest_s: float | None = None  # when the newest picture with a row came

    def take(self, pictures: Sequence[Arrival]) -> None:
        """Remember when pictures came."""
        if self.first_s is None:
            self.first_s = pictures[0].at_s
        self._came_s.update((picture.number, picture.at_s) for picture in pictures)

    def lag_s(self, rows: Sequence[Mapping[str, Any]]) -> float | None:
        """Seconds since the newest picture came that has a row, these included; final ones are forgotten."""
        for row in rows:
            came_s = self._came_s.pop(row["frame"]) if row["final"] else self._came_s[row["frame"]]
            self._newest_s = max(came_s, self._newest_s or came_s)
        return None if self._newest_s is None else round(time.monotonic() - self._newest_s, 3)


async def stream(gateway: Gateway, socket: WebSocket) -> None:
    """Serve one connection to its end."""
    try:
        accepted = gateway.keys.check_websocket(
            socket.headers.get("authorization"), socket.scope.get("subprotocols", ())
        )
        _check_origin(socket, gateway.config.access.origins)
    except Refusal:
        await socket.close(1008)  # before accept: the handshake is answered with 403
        return
    await socket.accept(subprotocol=accepted)
    key = None
    try:
        asked = validated(StreamAsked, dict(socket.query_params), "the query")
        served = gateway.model(asked.model)
        if served.takes_prompt:
            what = "this model needs a box around the object"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, served.name, remedy="open a session with it")
        camera = await gateway.camera(asked.source) if asked.source else None
        key = await gateway.open(served, None, asked.fps or 30.0, asked)
        await _follow(gateway, socket, key, asked, camera)
        key = None
        await socket.close()
    except WebSocketDisconnect:
        return
    except Exception as error:  # noqa: BLE001 -- at the boundary: the client is told, whatever it was
        problem = problem_of(error)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it is gone already
            await socket.send_text(json.dumps({"problem": problem.model_dump(exclude_none=True)}))
            await socket.close(_CLOSE_CODES.get(HTTPStatus(problem.status), 1008))
    finally:
        if key is not None:
            await gateway.drop(key)


async def _follow(gateway: Gateway, socket: WebSocket, key: str, asked: StreamAsked, camera: Camera | None) -> None:
    arrivals, told = Arrivals(drops=asked.drops), Told()
    work = _read(gateway, socket, arrivals) if camera is None else _watch(gateway, socket, arrivals, camera)
    reader = asyncio.create_task(work)

    async def tell(frames: int, rows: pa.Table, waiting: pa.Table | None = None, **more: bool) -> None:
        plain = [{**row, "final": True} for row in formats.plain_rows(rows)]
        if waiting is not None:
            plain += [{**row, "final": False} for row in formats.plain_rows(waiting)]
        state = {"lag_s": told.lag_s(plain), "behind": arrivals.qsize(), "dropped": arrivals.dropped}
        await socket.send_text(json.dumps({"frames": frames, "rows": plain, **state, **more}))

    try:
        while True:
            pictures, ended = await _next(arrivals, reader)
            if pictures:
                told.take(pictures)
                data, numbers = [each.picture for each in pictures], [each.number for each in pictures]
                times_s = None if asked.fps else [each.at_s - (told.first_s or 0.0) for each in pictures]
                rows = await gateway.follow(key, data, times_s, numbers, provisional=asked.provisional)
                await tell(numbers[-1] + 1, *rows)
            if ended:
                await tell(arrivals.came, await gateway.finish(key), done=True)
                return
    finally:
        reader.cancel()


async def _next(arrivals: Arrivals, reader: "asyncio.Task[None]") -> tuple[list[Arrival], bool]:
    """The items since the last call, and whether that was the end; raises the exception that ended the reader."""
    waiting = asyncio.ensure_future(arrivals.get())
    await asyncio.wait({waiting, reader}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        reader.result()
        raise WebSocketDisconnect
    item, pictures = waiting.result(), list[Arrival]()
    while item is not None:
        pictures.append(item)
        if arrivals.empty() or len(pictures) == MOST_AT_ONCE:
            return pictures, False
        item = arrivals.get_nowait()
    return pictures, True


async def _read(gateway: Gateway, socket: WebSocket, arrivals: Arrivals) -> None:
    """Put pictures into the queue until the client ends the stream."""
    limits = gateway.config.limits
    while True:
        try:
            message = await asyncio.wait_for(socket.receive(), limits.session_idle_s)
        except TimeoutError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, f"no frame for {limits.session_idle_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        if (picture := message.get("bytes")) is not None:
            if len(picture) > limits.picture_bytes:
                raise MediaError(QuarantineReason.TOO_LARGE, f"a picture of more than {limits.picture_bytes:,} bytes")
            await arrivals.add(picture)
        elif _is_end(message.get("text") or ""):
            await arrivals.put(None)
            await asyncio.Event().wait()  # until the rows are told
        else:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a text message other than {'end': true}")


async def _watch(gateway: Gateway, socket: WebSocket, arrivals: Arrivals, camera: Camera) -> None:
    """Put a camera's pictures into the queue until the client ends the stream, or leaves."""
    loop, limits = asyncio.get_running_loop(), gateway.config.limits

    def take() -> None:
        for picture in camera.pictures():
            if len(picture) <= limits.picture_bytes:
                asyncio.run_coroutine_threadsafe(arrivals.add(picture), loop).result()

    with closing(camera):
        watching = loop.run_in_executor(gateway.cameras, take)
        listening = asyncio.create_task(_until_end(socket))
        try:
            await asyncio.wait({watching, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
        if watching.done():
            watching.result()
        listening.result()
    await arrivals.put(None)
    await asyncio.Event().wait()  # until the rows are told


async def _until_end(socket: WebSocket) -> None:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    if not _is_end(message.get("text") or ""):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the server watches a camera: send {'end': true}, and nothing else")


def _is_end(text: str) -> bool:
    try:
        return json.loads(text) == {"end": True}
    except (ValueError, RecursionError):
        return False


def _check_origin(socket: WebSocket, allowed: Sequence[str]) -> None:
    """Refusal(403) for another site's page: browsers let any page open a WebSocket to a loopback server."""
    origin = socket.headers.get("origin")
    own = origin is None or origin.partition("://")[2] == socket.headers.get("host")
    if not own and origin not in allowed:
        raise Refusal(HTTPStatus.FORBIDDEN, "a page of another site", origin)

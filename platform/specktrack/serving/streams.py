"""The WebSocket: pictures in, rows out.

    client                                       server
    binary: one JPEG or PNG picture
                                                 text: {"frames": 12, "rows": [...]}   frames taken so far, final rows
    text: {"end": true}
                                                 text: {"frames": 120, "rows": [...], "done": true}
                                                 text: {"problem": {...}}, and the connection is closed

A client that wants to be sure that it is not far ahead waits for ``frames``. With ``?fps=`` frame n has the time
n / fps, else the time of its arrival since the first. The query also names the model and how it is read.
"""

import asyncio
import contextlib
import json
import time
from http import HTTPStatus

import pyarrow as pa
from fastapi import WebSocket, WebSocketDisconnect

from specktrack.config import validated
from specktrack.errors import MediaError, QuarantineReason
from specktrack.serving import formats
from specktrack.serving.answers import StreamAsked
from specktrack.serving.gateway import Gateway
from specktrack.serving.problems import Refusal, problem_of

MOST_WAITING = 64
"""Pictures that came and are not followed yet; a client that is so far ahead is not read from for a while."""
MOST_WAITING_BYTES = 32_000_000
MOST_AT_ONCE = 16
_CLOSE_CODES = {
    HTTPStatus.SERVICE_UNAVAILABLE: 1013,
    HTTPStatus.INTERNAL_SERVER_ERROR: 1011,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: 1009,
}

Arrival = tuple[float, bytes] | None
"""When a picture came, and its bytes; None is the end."""


class Arrivals(asyncio.Queue[Arrival]):
    """What waits for its turn, bounded in pictures and in bytes."""

    waiting_bytes = 0

    def full(self) -> bool:
        """Whether the client is not read from for a while."""
        return super().full() or self.waiting_bytes >= MOST_WAITING_BYTES

    def _put(self, item: Arrival) -> None:
        self.waiting_bytes += len(item[1]) if item else 0
        super()._put(item)

    def _get(self) -> Arrival:
        item: Arrival = super()._get()
        self.waiting_bytes -= len(item[1]) if item else 0
        return item


async def stream(gateway: Gateway, socket: WebSocket) -> None:
    """Serve one connection to its end."""
    try:
        accepted = gateway.keys.check_websocket(
            socket.headers.get("authorization"), socket.scope.get("subprotocols", ())
        )
        _check_origin(socket)
    except Refusal:
        await socket.close(1008)  # before accept: the handshake is answered with 403
        return
    await socket.accept(subprotocol=accepted)
    key = None
    try:
        asked = validated(StreamAsked, dict(socket.query_params), "the query")
        served = gateway.model(asked.model)
        if served.takes_prompt:
            what = "this model follows an object that a box names"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, served.name, remedy="open a session with it")
        key = await gateway.open(served, None, asked.fps or 30.0, asked)
        await _follow(gateway, socket, key, timed=asked.fps is None)
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


async def _follow(gateway: Gateway, socket: WebSocket, key: str, *, timed: bool) -> None:
    arrivals = Arrivals(MOST_WAITING)
    reader = asyncio.create_task(_read(gateway, socket, arrivals))
    frames, first_s = 0, 0.0
    try:
        while True:
            batch = await _next(arrivals, reader)
            pictures = [arrival for arrival in batch if arrival is not None]
            if pictures:
                first_s = first_s or pictures[0][0]
                times_s = [arrived_s - first_s for arrived_s, _ in pictures] if timed else None
                rows = await gateway.push(key, [picture for _, picture in pictures], times_s)
                frames += len(pictures)
                await _tell(socket, frames, rows)
            if len(pictures) < len(batch):
                await _tell(socket, frames, await gateway.finish(key), done=True)
                return
    finally:
        reader.cancel()


async def _next(arrivals: Arrivals, reader: "asyncio.Task[None]") -> list[Arrival]:
    """What came since the last call, at least one thing; raises what ended the reader."""
    waiting = asyncio.ensure_future(arrivals.get())
    await asyncio.wait({waiting, reader}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        reader.result()
        raise WebSocketDisconnect
    batch = [waiting.result()]
    while not arrivals.empty() and len(batch) < MOST_AT_ONCE and batch[-1] is not None:
        batch.append(arrivals.get_nowait())
    return batch


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
            await arrivals.put((time.monotonic(), picture))
        elif _is_end(message.get("text") or ""):
            await arrivals.put(None)
            await asyncio.Event().wait()  # until the rows are told
        else:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a text message other than {'end': true}")


async def _tell(socket: WebSocket, frames: int, rows: pa.Table, *, done: bool = False) -> None:
    answer = {"frames": frames, "rows": formats.plain_rows(rows)}
    await socket.send_text(json.dumps({**answer, "done": True} if done else answer))


def _is_end(text: str) -> bool:
    try:
        return json.loads(text) == {"end": True}
    except (ValueError, RecursionError):
        return False


def _check_origin(socket: WebSocket) -> None:
    """Refusal(403) for another site's page: browsers let any page open a WebSocket to a loopback server."""
    origin = socket.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != socket.headers.get("host"):
        raise Refusal(HTTPStatus.FORBIDDEN, "a page of another site", origin)

"""The client, for programs that call a server; it needs neither torch nor Ray.

    with Client("http://127.0.0.1:8000", key="...") as client:
        rows = client.annotate("clip.mp4")                  # pyarrow.Table of the row schema
        batch = client.start_batch(["videos"], "rows")      # client.wait(batch.id) until it ended

    async with AsyncClient("http://127.0.0.1:8000") as client:
        rows = await client.annotate("clip.mp4")
        async for rows in client.stream(pictures): ...      # JPEG or PNG bytes in, rows out as they become final

A busy server is asked again after the time that it names. So is one whose connection broke, or for which something on
the way answered in its place, as Ray's proxy does when a replica died: annotating a clip changes nothing. Batches and
sessions are asked for once.
"""

import asyncio
import io
import json
import random
import time
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx
import pyarrow as pa
import pyarrow.ipc

from specktrack.config import validated
from specktrack.errors import SpecktrackError
from specktrack.schema import Box
from specktrack.serving.answers import Asked, OpenedSession, Row, StreamAsked
from specktrack.serving.batch_records import Batch, BatchRequest
from specktrack.serving.catalog import ModelInfo

ARROW = "application/vnd.apache.arrow.stream"
LOOK_EVERY_S = 1.0
TRIES = 8
"""Of a call that may be repeated; with pauses up to MOST_PAUSE_S they outlast a replica that starts again."""
MOST_PAUSE_S = 10.0

Call = tuple[str, str, dict[str, Any]]
"""Method, path and what httpx is given: what the two clients share."""
Steps = Generator[Call, httpx.Response, Any]
"""One exchange after another, written once and driven by either client."""


class ServerError(SpecktrackError):
    """The server refused a request, or stayed busy."""

    def __init__(self, status: int, detail: str, reason: str | None = None) -> None:
        super().__init__(detail)
        self.args = (status, detail, reason)  # what pickle hands back to __init__
        self.status, self.reason = status, reason
        self.retry_after_s: float | None = None


def _annotate(clip: str | Path | bytes, model: str | None, reading: Mapping[str, Any]) -> Steps:
    headers, given = {"Accept": ARROW}, {"params": _query(Asked, {"model": model, **reading})}
    if isinstance(clip, str) and "://" in clip:
        answer = yield "POST", "/v1/annotate", {"json": {"uri": clip}, "headers": headers, **given}
    elif isinstance(clip, bytes):
        headers["Content-Type"] = "application/octet-stream"
        answer = yield "POST", "/v1/annotate", {"content": clip, "headers": headers, **given}
    else:
        path = Path(clip)
        with path.open("rb") as file:  # httpx reads it as it sends, from its beginning each time
            files = {"clip": (path.name, file)}
            answer = yield "POST", "/v1/annotate", {"files": files, "headers": headers, **given}
    with pa.ipc.open_stream(io.BytesIO(answer.content)) as reader:
        return reader.read_all()


def _query(kind: type[Asked], given: Mapping[str, Any]) -> dict[str, str]:
    """What is asked for, as a query; ConfigError for what there is not."""
    chosen = {name: value for name, value in given.items() if value is not None}
    asked = validated(kind, chosen, "the request").model_dump(mode="json", exclude_unset=True)
    return {name: ",".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in asked.items()}


def _models() -> Steps:
    answer = yield "GET", "/v1/models", {}
    return [ModelInfo.model_validate(each) for each in answer.json()]


def _batch_request(sources: Sequence[str], output: str, model: str | None, reading: Mapping[str, Any]) -> BatchRequest:
    return validated(
        BatchRequest, {"sources": tuple(sources), "output": output, "model": model, **reading}, "the request"
    )


def _start_batch(request: BatchRequest) -> Steps:
    answer = yield "POST", "/v1/batches", {"json": request.model_dump(mode="json", exclude_unset=True)}
    return Batch.model_validate(answer.json())


def _batch(key: str, method: str) -> Steps:
    answer = yield method, f"/v1/batches/{key}", {}
    return Batch.model_validate(answer.json())


def _open_session(frame: bytes, box: Box | Sequence[Box], model: str | None, fps: float) -> Steps:
    boxes = [box.model_dump()] if isinstance(box, Box) else [each.model_dump() for each in box]
    data = {
        "box": json.dumps(boxes[0] if len(boxes) == 1 else boxes),
        "fps": str(fps),
        **({"model": model} if model else {}),
    }
    answer = yield "POST", "/v1/sessions", {"files": {"frame": ("frame", frame)}, "data": data}
    return OpenedSession.model_validate(answer.json())


def _push_frames(key: str, frames: Sequence[bytes]) -> Steps:
    files = [("frame", ("frame", frame)) for frame in frames]
    answer = yield "POST", f"/v1/sessions/{key}/frames", {"files": files}
    return _rows(answer.json())


def _close_session(key: str) -> Steps:
    answer = yield "DELETE", f"/v1/sessions/{key}", {}
    return _rows(answer.json())


def _rows(said: Mapping[str, Any]) -> list[Row]:
    return [Row.model_validate(row) for row in said["rows"]]


def _checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is none of a problem; ServerError otherwise."""
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
        error = ServerError(answer.status_code, problem["detail"], problem.get("reason"))
        said_here = True
    except (ValueError, KeyError, TypeError):
        error = ServerError(answer.status_code, answer.text[:500] or answer.reason_phrase)
        said_here = False  # but by a proxy
    if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE or (answer.is_server_error and not said_here):
        error.retry_after_s = _retry_after_s(answer.headers.get("Retry-After", "1"))
    raise error


def _retry_after_s(said: str) -> float:
    """Seconds that a Retry-After header asks for, be it a number or a date; 1 where it is neither."""
    try:
        return float(said) if said.isdecimal() else max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 1.0


class _Patience:
    """How often a busy or broken server is asked again, and after how long: twice as long each time, up to 10 s."""

    def __init__(self, tries: int) -> None:
        self._tries, self._failed = tries, 0

    def pause_s(self, error: Exception) -> float | None:
        """Seconds until the next try; None to give up."""
        self._failed += 1
        first_s = error.retry_after_s if isinstance(error, ServerError) else 0.5  # or the connection broke
        if self._failed >= self._tries or first_s is None:
            return None
        return max(first_s, min(first_s * 2 ** (self._failed - 1), MOST_PAUSE_S)) * random.uniform(0.5, 1.5)


def _until_next_look_s(batch: Batch, started: float, timeout_s: float | None) -> float:
    """How long to wait before a batch is looked at again; TimeoutError if its time is up."""
    left_s = LOOK_EVERY_S if timeout_s is None else started + timeout_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError(f"batch {batch.id} is still {batch.state} after {timeout_s:g} s; it goes on by itself")
    return min(LOOK_EVERY_S, left_s)


def _client_arguments(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url, "headers": headers, "timeout": httpx.Timeout(timeout_s, connect=10.0)}


class Client:
    """Calls a server and waits for its answers; ServerError says what it refused. Live streams need an AsyncClient."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 600.0, tries: int = TRIES) -> None:
        self._http, self._tries = httpx.Client(**_client_arguments(url, key, timeout_s)), tries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def models(self) -> list[ModelInfo]:
        """The models that can be named."""
        return self._drive(_models())

    def annotate(self, clip: str | Path | bytes, *, model: str | None = None, **reading: Any) -> pa.Table:
        """The rows of a clip: a local path, its bytes, or a URI that the server may read.

        ``reading`` are fields of ``Reading``, such as ``overlap=1``; the server's own stand for the others.
        """
        return self._drive(_annotate(clip, model, reading))

    def start_batch(self, sources: Sequence[str], output: str, *, model: str | None = None, **reading: Any) -> Batch:
        """Have many videos annotated in the background; ``reading`` as in ``annotate``."""
        return self._drive(_start_batch(_batch_request(sources, output, model, reading)), tries=1)

    def batch(self, key: str) -> Batch:
        """How far a batch is."""
        return self._drive(_batch(key, "GET"))

    def cancel_batch(self, key: str) -> Batch:
        """Stop a batch."""
        return self._drive(_batch(key, "DELETE"))

    def wait(self, key: str, *, timeout_s: float | None = None) -> Batch:
        """Look at a batch until it has ended; TimeoutError if that takes longer, and the batch goes on."""
        started = time.monotonic()
        while not (batch := self.batch(key)).state.is_final:
            time.sleep(_until_next_look_s(batch, started, timeout_s))
        return batch

    def open_session(
        self, frame: bytes, box: Box | Sequence[Box], *, model: str | None = None, fps: float = 30.0
    ) -> OpenedSession:
        """Begin to follow what a box in an encoded picture holds."""
        return self._drive(_open_session(frame, box, model, fps), tries=1)

    def push_frames(self, key: str, frames: Sequence[bytes]) -> list[Row]:
        """The rows that are final after more encoded pictures; never repeated, since a repeated frame is another."""
        return self._drive(_push_frames(key, frames), tries=1)

    def close_session(self, key: str) -> list[Row]:
        """The remaining rows."""
        return self._drive(_close_session(key), tries=1)

    def _drive(self, steps: Steps, *, tries: int | None = None) -> Any:
        try:
            with closing(steps):
                call = next(steps)
                while True:
                    call = steps.send(self._answer(*call, _Patience(tries or self._tries)))
        except StopIteration as end:
            return end.value

    def _answer(self, method: str, path: str, given: dict[str, Any], patience: _Patience) -> httpx.Response:
        while True:
            try:
                return _checked(self._http.request(method, path, **given))
            except (ServerError, httpx.TransportError) as error:
                if (pause_s := patience.pause_s(error)) is None:
                    raise
                time.sleep(pause_s)


class AsyncClient:
    """The same with ``await``, and live streams."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 600.0, tries: int = TRIES) -> None:
        self._url, self._key, self._tries = url, key, tries
        self._http = httpx.AsyncClient(**_client_arguments(url, key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def models(self) -> list[ModelInfo]:
        """The models that can be named."""
        return await self._drive(_models())

    async def annotate(self, clip: str | Path | bytes, *, model: str | None = None, **reading: Any) -> pa.Table:
        """See Client."""
        return await self._drive(_annotate(clip, model, reading))

    async def start_batch(
        self, sources: Sequence[str], output: str, *, model: str | None = None, **reading: Any
    ) -> Batch:
        """See Client."""
        return await self._drive(_start_batch(_batch_request(sources, output, model, reading)), tries=1)

    async def batch(self, key: str) -> Batch:
        """See Client."""
        return await self._drive(_batch(key, "GET"))

    async def cancel_batch(self, key: str) -> Batch:
        """See Client."""
        return await self._drive(_batch(key, "DELETE"))

    async def wait(self, key: str, *, timeout_s: float | None = None) -> Batch:
        """See Client."""
        started = time.monotonic()
        while not (batch := await self.batch(key)).state.is_final:
            await asyncio.sleep(_until_next_look_s(batch, started, timeout_s))
        return batch

    async def open_session(
        self, frame: bytes, box: Box | Sequence[Box], *, model: str | None = None, fps: float = 30.0
    ) -> OpenedSession:
        """See Client."""
        return await self._drive(_open_session(frame, box, model, fps), tries=1)

    async def push_frames(self, key: str, frames: Sequence[bytes]) -> list[Row]:
        """See Client."""
        return await self._drive(_push_frames(key, frames), tries=1)

    async def close_session(self, key: str) -> list[Row]:
        """See Client."""
        return await self._drive(_close_session(key), tries=1)

    async def stream(
        self,
        pictures: Iterable[bytes] | AsyncIterator[bytes],
        *,
        model: str | None = None,
        fps: float | None = None,
        **reading: Any,
    ) -> AsyncIterator[list[Row]]:
        """Rows of a live stream as they become final, for pictures encoded as JPEG or PNG; ``reading`` as elsewhere.

        What ``pictures`` raises ends the stream and is raised here; so is a ServerError where it ends before its end.
        """
        from websockets.asyncio.client import connect  # comes with ray[serve]; only streams need it
        from websockets.exceptions import InvalidStatus

        query = httpx.QueryParams(_query(StreamAsked, {"model": model, "fps": fps, **reading}))
        url = f"ws{self._url.removeprefix('http').rstrip('/')}/v1/stream?{query}"
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        try:
            socket = await connect(url, additional_headers=headers, max_size=None)
        except InvalidStatus as error:
            status = error.response.status_code
            raise ServerError(status, "the server takes no stream from here; look at the key and the URL") from None
        async with socket:
            sender = asyncio.create_task(_send_all(socket, pictures))
            try:
                ended = False
                while not ended:
                    said = await _next_message(socket, sender)
                    ended = said.get("done", False)
                    yield _rows(said)
            finally:
                sender.cancel()

    async def _drive(self, steps: Steps, *, tries: int | None = None) -> Any:
        try:
            with closing(steps):
                call = next(steps)
                while True:
                    call = steps.send(await self._answer(*call, _Patience(tries or self._tries)))
        except StopIteration as end:
            return end.value

    async def _answer(self, method: str, path: str, given: dict[str, Any], patience: _Patience) -> httpx.Response:
        while True:
            try:
                return _checked(await self._http.request(method, path, **given))
            except (ServerError, httpx.TransportError) as error:
                if (pause_s := patience.pause_s(error)) is None:
                    raise
                await asyncio.sleep(pause_s)


async def _send_all(socket: Any, pictures: Iterable[bytes] | AsyncIterator[bytes]) -> None:
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):  # who reads the messages is told why
        if isinstance(pictures, AsyncIterator):
            async for picture in pictures:
                await socket.send(picture)
        else:
            for picture in pictures:
                await socket.send(picture)
        await socket.send('{"end": true}')


async def _next_message(socket: Any, sender: "asyncio.Task[None]") -> dict[str, Any]:
    """What a stream's server says next; raises its problem, or what ended the pictures."""
    from websockets.exceptions import ConnectionClosed

    receiving = asyncio.ensure_future(socket.recv())
    try:
        if not sender.done():
            await asyncio.wait({receiving, sender}, return_when=asyncio.FIRST_COMPLETED)
        if sender.done() and not receiving.done():
            sender.result()
        said: dict[str, Any] = json.loads(await receiving)
    except ConnectionClosed:
        what = "the connection broke before the stream's end; open another one"
        raise ServerError(HTTPStatus.SERVICE_UNAVAILABLE, what) from None
    finally:
        receiving.cancel()
    if problem := said.get("problem"):
        raise ServerError(problem["status"], problem["detail"], problem.get("reason"))
    return said

"""A client for programs that call a server, without torch and Ray.

    with Client("http://127.0.0.1:8000", key="...") as client:
        rows = client.annotate("clip.mp4")                  # pyarrow.Table of the row schema
        batch = client.start_batch(["videos"], "rows")      # client.wait(batch.id) until it ended

        for rows in client.stream(pictures): ...            # JPEG or PNG bytes in, rows out as they become final

``AsyncClient`` is the same with ``await`` and ``async for``. What goes wrong is a SpecktrackError: ServerError for what
the server refused or did not answer, ConfigError for what cannot be asked.

A busy server is asked again after the time that it names. So is one whose connection broke, or for which something on
the way answered in its place, as Ray's proxy does when a replica died: annotating a clip changes nothing, and a batch
has a key by which the server knows it again. Sessions are asked for once.
"""

import asyncio
import io
import json
import random
import secrets
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from specktrack.config import validated
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.schema import Box
from specktrack.serving.answers import (
    Asked,
    Batch,
    BatchAsked,
    Batches,
    BatchRequest,
    BatchState,
    ClipAsked,
    LiveRow,
    ModelInfo,
    OpenedSession,
    Row,
    StreamAsked,
)

PARQUET = "application/vnd.apache.parquet"
END = '{"end": true}'
LOOK_EVERY_S = 1.0
TRIES = 8
"""Attempts of a repeatable call; with pauses up to MOST_PAUSE_S, they outlast a restarting replica."""
MOST_PAUSE_S = 10.0

Call = tuple[str, str, dict[str, Any]]
"""Method, path and arguments for httpx, shared by the two clients."""
AnyAsked = TypeVar("AnyAsked", bound=Asked)
Steps = Generator[Call, httpx.Response, Any]
"""One exchange after another, written once and driven by either client."""


class ServerError(SpecktrackError):
    """The server refused a request, stayed busy, or could not be reached (status 503)."""

    def __init__(self, status: int, detail: str, reason: str | None = None) -> None:
        super().__init__(detail)
        self.args = (status, detail, reason)  # what pickle hands back to __init__
        self.status, self.reason = status, reason
        self.retry_after_s: float | None = None


class StillRunningError(SpecktrackError, TimeoutError):
    """A batch did not end within the waiting time; it continues."""


class LiveRows(list[LiveRow]):
    """The rows of one message of a stream, and its status."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        super().__init__(LiveRow.model_validate(row) for row in said["rows"])
        self.frames: int = said["frames"]
        """Pictures that the server has received or dropped."""
        self.lag_s: float | None = said.get("lag_s")
        """Age of the newest picture that has a row; None before the first."""
        self.behind: int = said.get("behind", 0)
        """Pictures waiting."""
        self.dropped: int = said.get("dropped", 0)
        """Pictures without a row, because too many arrived."""
        self.done: bool = said.get("done", False)


def _annotate(clip: str | Path | bytes, model: str | None, reading: Mapping[str, Any]) -> Steps:
    headers, given = {"Accept": PARQUET}, {"params": _query(ClipAsked, {"model": model, **reading})}
    if isinstance(clip, str) and "://" in clip:
        answer = yield "POST", "/v1/annotate", {"json": {"uri": clip}, "headers": headers, **given}
    elif isinstance(clip, bytes):
        headers["Content-Type"] = "application/octet-stream"
        answer = yield "POST", "/v1/annotate", {"content": clip, "headers": headers, **given}
    else:
        path = Path(clip)
        with _opened(path) as file:  # httpx reads it as it sends, from its beginning each time
            files = {"clip": (path.name, file)}
            answer = yield "POST", "/v1/annotate", {"files": files, "headers": headers, **given}
    return Batch.model_validate(answer.json()) if answer.status_code == HTTPStatus.ACCEPTED else _table(answer)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError("cannot read the clip", error.strerror, str(path)) from None


def _table(answer: httpx.Response) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(answer.content))
    except (pa.ArrowException, OSError):
        raise ServerError(HTTPStatus.BAD_GATEWAY, "the answer is not a Parquet file, or is incomplete") from None


def _query(kind: type[Asked], given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The options as a query; ConfigError for unknown ones."""
    asked = _chosen(kind, given).model_dump(mode="json", exclude_unset=True)
    return {name: _as_sent(value) for name, value in asked.items()}


def _as_sent(value: Any) -> str | list[str]:
    """Texts are sent as separate values, a pair of numbers as one."""
    if not isinstance(value, list):
        return str(value)
    return value if value and isinstance(value[0], str) else ",".join(map(str, value))


def _chosen(kind: type[AnyAsked], given: Mapping[str, Any]) -> AnyAsked:
    return validated(kind, {name: value for name, value in given.items() if value is not None}, "the request")


def _models() -> Steps:
    answer = yield "GET", "/v1/models", {}
    return [ModelInfo.model_validate(each) for each in answer.json()]


def _start_batch(sources: Sequence[str | Path], output: str | None, asked: Mapping[str, Any]) -> Steps:
    """Places are named, files are uploaded. The key makes a repeated request return the same batch."""
    given: dict[str, Any] = {"headers": {"Idempotency-Key": secrets.token_hex(16)}}
    asked = {"output": output, **asked}
    files = [Path(source) for source in sources if isinstance(source, Path)]
    if not files:
        request = _chosen(BatchRequest, {"sources": tuple(sources), **asked}).model_dump(
            mode="json", exclude_unset=True
        )
        answer = yield "POST", "/v1/batches", {"json": request, **given}
    elif len(files) < len(sources):
        raise ConfigError(
            "give a batch either places that the server reads or files to send, not both", str(sources[0])
        )
    else:
        with ExitStack() as stack:
            sent = [("clip", (path.name, stack.enter_context(_opened(path)))) for path in files]
            answer = yield "POST", "/v1/batches", {"files": sent, "data": _query(BatchAsked, asked), **given}
    return Batch.model_validate(answer.json())


def _batches() -> Steps:
    found: list[Batch] = []
    after: str | None = None
    while True:
        answer = yield "GET", "/v1/batches", {"params": {"after": after} if after else {}}
        page = Batches.model_validate(answer.json())
        found += page.batches
        if (after := page.next) is None:
            return found


def _batch_rows(key: str) -> Steps:
    answer = yield "GET", f"/v1/batches/{key}/rows", {"headers": {"Accept": PARQUET}}
    return _table(answer)


def _batch_overlay(key: str, video: str | None) -> Steps:
    answer = yield "GET", f"/v1/batches/{key}/overlay", {"params": {"video": video} if video else {}}
    return answer.content


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
    """The answer, unless it is a problem; then ServerError."""
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
    """Seconds requested by a Retry-After header, a number or a date; 1 if it is neither."""
    try:
        return float(said) if said.isdecimal() else max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 1.0


class _Patience:
    """How often and when a busy or broken server is asked again: the pause doubles each time, up to 10 s."""

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
    """Seconds until the batch is checked again; TimeoutError if the time is up."""
    left_s = LOOK_EVERY_S if timeout_s is None else started + timeout_s - time.monotonic()
    if left_s <= 0:
        raise StillRunningError(
            f"batch {batch.id} is still {batch.state} after {timeout_s:g} s; it continues on its own"
        )
    return min(LOOK_EVERY_S, left_s)


def _whole(batch: Batch) -> None:
    """ServerError unless the batch completed."""
    if batch.state is not BatchState.DONE:
        raise ServerError(HTTPStatus.BAD_GATEWAY, f"the batch of the clip {batch.state}: {batch.error or ''}")
    if batch.quarantined:
        raise ServerError(HTTPStatus.UNPROCESSABLE_ENTITY, "the clip cannot be used", next(iter(batch.quarantined)))


def _client_arguments(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url, "headers": headers, "timeout": httpx.Timeout(timeout_s, connect=10.0)}


class Client:
    """Calls a server and waits for its answers; raises ServerError if it refuses."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 600.0, tries: int = TRIES) -> None:
        self._url, self._key, self._tries = url, key, tries
        self._http = httpx.Client(**_client_arguments(url, key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[ModelInfo]:
        """The models that the server offers."""
        return self._drive(_models())

    def annotate(self, clip: str | Path | bytes, *, model: str | None = None, **reading: Any) -> pa.Table:
        """Annotate a clip and return its rows. The clip is a local path, bytes, or a URI that the server may read.

        ``reading`` are fields of ``ClipAsked``, such as ``overlap=1``; the server's settings apply to the others. If
        the server turns a clip that takes too long into a batch, this waits for the batch.
        """
        found = self._drive(_annotate(clip, model, reading))
        if not isinstance(found, Batch):
            return found
        _whole(self.wait(found.id))
        return self.batch_rows(found.id)

    def start_batch(self, sources: Sequence[str | Path], output: str | None = None, **asked: Any) -> Batch:
        """Annotate many videos in the background: places that the server reads, or files (Path) to upload.

        ``asked`` are the fields of ``BatchAsked``: model, overlay, webhook, and the reading settings.
        """
        return self._drive(_start_batch(sources, output, asked))

    def batches(self) -> list[Batch]:
        """All batches on the server, newest first."""
        return self._drive(_batches())

    def batch_rows(self, key: str) -> pa.Table:
        """The rows of a batch so far."""
        return self._drive(_batch_rows(key))

    def batch_overlay(self, key: str, video: str | None = None) -> bytes:
        """A video (MP4) with the trajectory drawn, of a batch with ``overlay``."""
        return self._drive(_batch_overlay(key, video))

    def batch(self, key: str) -> Batch:
        """The state and progress of a batch."""
        return self._drive(_batch(key, "GET"))

    def cancel_batch(self, key: str) -> Batch:
        """Cancel a batch."""
        return self._drive(_batch(key, "DELETE"))

    def wait(self, key: str, *, timeout_s: float | None = None) -> Batch:
        """Wait until a batch has ended; TimeoutError if that takes longer, and the batch continues."""
        started = time.monotonic()
        while not (batch := self.batch(key)).state.is_final:
            time.sleep(_until_next_look_s(batch, started, timeout_s))
        return batch

    def open_session(
        self, frame: bytes, box: Box | Sequence[Box], *, model: str | None = None, fps: float = 30.0
    ) -> OpenedSession:
        """Start a session that follows the object in a box in an encoded picture."""
        return self._drive(_open_session(frame, box, model, fps), tries=1)

    def push_frames(self, key: str, frames: Sequence[bytes]) -> list[Row]:
        """Send more encoded pictures and return the rows that are now final. Never retried, because a repeated frame
        would be a new one."""
        return self._drive(_push_frames(key, frames), tries=1)

    def close_session(self, key: str) -> list[Row]:
        """End the session and return the remaining rows."""
        return self._drive(_close_session(key), tries=1)

    def stream(
        self, pictures: Iterable[bytes], *, model: str | None = None, fps: float | None = None, **asked: Any
    ) -> Iterator[LiveRows]:
        """Rows of a live stream of pictures encoded as JPEG or PNG; a separate thread sends them.

        ``asked`` are the fields of ``StreamAsked``: ``drop="newest"``, ``provisional=True``, ``overlap=1`` and so on.
        Exceptions raised by ``pictures`` end the stream and are raised here. So is a ServerError if the stream ends
        early.
        """
        from websockets.sync.client import connect  # only streams need it

        url, headers = _stream_at(self._url, self._key, {"model": model, "fps": fps, **asked})
        with _stream_errors(), connect(url, additional_headers=headers, max_size=None) as socket:
            sending = _Sending(socket, pictures)
            while True:
                rows = _live_rows(sending.receive())
                yield rows
                if rows.done:
                    return

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
                    raise _ours(error) from None
                time.sleep(pause_s)


class AsyncClient:
    """The same client with ``await``."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 600.0, tries: int = TRIES) -> None:
        self._url, self._key, self._tries = url, key, tries
        self._http = httpx.AsyncClient(**_client_arguments(url, key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def models(self) -> list[ModelInfo]:
        """The models that the server offers."""
        return await self._drive(_models())

    async def annotate(self, clip: str | Path | bytes, *, model: str | None = None, **reading: Any) -> pa.Table:
        """See Client."""
        found = await self._drive(_annotate(clip, model, reading))
        if not isinstance(found, Batch):
            return found
        _whole(await self.wait(found.id))
        return await self.batch_rows(found.id)

    async def start_batch(self, sources: Sequence[str | Path], output: str | None = None, **asked: Any) -> Batch:
        """See Client."""
        return await self._drive(_start_batch(sources, output, asked))

    async def batches(self) -> list[Batch]:
        """See Client."""
        return await self._drive(_batches())

    async def batch_rows(self, key: str) -> pa.Table:
        """See Client."""
        return await self._drive(_batch_rows(key))

    async def batch_overlay(self, key: str, video: str | None = None) -> bytes:
        """See Client."""
        return await self._drive(_batch_overlay(key, video))

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
        **asked: Any,
    ) -> AsyncIterator[LiveRows]:
        """See Client; ``pictures`` may be an asynchronous iterator."""
        from websockets.asyncio.client import connect

        url, headers = _stream_at(self._url, self._key, {"model": model, "fps": fps, **asked})
        with _stream_errors():
            async with connect(url, additional_headers=headers, max_size=None) as socket:
                sender = asyncio.create_task(_send_all(socket, pictures))
                try:
                    while True:
                        rows = _live_rows(await _next_message(socket, sender))
                        yield rows
                        if rows.done:
                            return
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
                    raise _ours(error) from None
                await asyncio.sleep(pause_s)


def _ours(error: ServerError | httpx.TransportError) -> ServerError:
    """The package's error for a failed connection."""
    if isinstance(error, ServerError):
        return error
    return ServerError(HTTPStatus.SERVICE_UNAVAILABLE, f"no answer from the server: {error or type(error).__name__}")


def _stream_at(url: str, key: str | None, asked: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    query = httpx.QueryParams(_query(StreamAsked, asked))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return f"ws{url.removeprefix('http').rstrip('/')}/v1/stream?{query}", headers


@contextmanager
def _stream_errors() -> Iterator[None]:
    """A ServerError for anything that ends a stream early."""
    from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        raise ServerError(status, "the server refused the stream; check the key and the URL") from None
    except InvalidHandshake as error:
        raise ServerError(HTTPStatus.BAD_GATEWAY, f"no stream from the server: {error}") from None
    except WebSocketException:
        what = "the connection broke before the end of the stream; open a new one"
        raise ServerError(HTTPStatus.SERVICE_UNAVAILABLE, what) from None
    except _PicturesError as error:
        raise error.error from None
    except OSError as error:
        raise ServerError(HTTPStatus.SERVICE_UNAVAILABLE, f"no answer from the server: {error}") from None


class _PicturesError(Exception):
    """An exception raised by the caller's own pictures: not an error of the stream."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def _live_rows(said: dict[str, Any]) -> LiveRows:
    if problem := said.get("problem"):
        raise ServerError(problem["status"], problem["detail"], problem.get("reason"))
    return LiveRows(said)


class _Sending:
    """A thread that sends pictures while another receives rows."""

    def __init__(self, socket: Any, pictures: Iterable[bytes]) -> None:
        self._socket, self._pictures = socket, pictures
        self._fault: BaseException | None = None
        threading.Thread(target=self._send, name="pictures", daemon=True).start()

    def receive(self) -> dict[str, Any]:
        """The server's next message; raises the exception that ended the pictures."""
        from websockets.exceptions import ConnectionClosed

        try:
            said: dict[str, Any] = json.loads(self._socket.recv())
        except ConnectionClosed:
            if self._fault is not None:
                raise _PicturesError(self._fault) from None
            raise
        return said

    def _send(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            for picture in self._pictures:
                self._socket.send(picture)
            self._socket.send(END)
        except ConnectionClosed:
            pass  # who receives is told why
        except BaseException as fault:  # noqa: BLE001 -- a thread's end: it is raised where rows are received
            self._fault = fault
            self._socket.close()


async def _send_all(socket: Any, pictures: Iterable[bytes] | AsyncIterator[bytes]) -> None:
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):  # who reads the messages is told why
        if isinstance(pictures, AsyncIterator):
            async for picture in pictures:
                await socket.send(picture)
        else:
            for picture in pictures:
                await socket.send(picture)
        await socket.send(END)


async def _next_message(socket: Any, sender: "asyncio.Task[None]") -> dict[str, Any]:
    """The next message of a stream's server; raises the exception that ended the pictures."""
    receiving = asyncio.ensure_future(socket.recv())
    try:
        if not sender.done():
            await asyncio.wait({receiving, sender}, return_when=asyncio.FIRST_COMPLETED)
        if sender.done() and not receiving.done() and (fault := sender.exception()) is not None:
            raise _PicturesError(fault)
        said: dict[str, Any] = json.loads(await receiving)
    finally:
        receiving.cancel()
    return said

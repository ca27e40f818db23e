"""Request bodies, written to disk as they come, under limits of size and time."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from specktrack.serving.config import Limits
from specktrack.serving.fetch import too_large
from specktrack.serving.problems import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MULTIPART = "multipart/form-data"
MOST_FIELD_BYTES = 16_384
MOST_JSON_BYTES = 1_000_000
MOST_PARTS = 64
MOST_BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""
SLOWEST_BYTES_PER_S = 10_000
"""A body that comes more slowly than this after its first ``stall_s`` is given up: trickles would hold connections."""
MOST_HEADER_BYTES = 256
RAW = ("application/octet-stream", "video/")
PICTURES = ("image/jpeg", "image/png")


@dataclass
class Form:
    """The contents of a body: text fields, and files in a folder of the request."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, str, Path]] = field(default_factory=list)
    """(field, the client's name for it, where it lies)."""


def media_type_of(request: Request) -> str:
    """The Content-Type without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def receive_json(request: Request, limits: Limits) -> Any:
    """A JSON body; Refusal(400) if it is not JSON, or holds NaN or infinities, which JSON has not."""
    data = bytearray()
    async for chunk in body(
        request, MOST_JSON_BYTES, limits, what="a JSON body", remedy="send fewer sources at a time"
    ):
        data += chunk
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None


async def receive_file(request: Request, folder: Path, limits: Limits, *, most_bytes: int) -> Form:
    """A body that is the file itself."""
    path = folder / "0"
    with path.open("wb") as file:
        async for chunk in body(request, most_bytes, limits):
            file.write(chunk)
    return Form(files=[("", "", path)])


async def receive_form(request: Request, folder: Path, limits: Limits, *, most_bytes: int) -> Form:
    """A multipart body, its files in ``folder`` under numbers: a client's file name is never a path here."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refusal(HTTPStatus.BAD_REQUEST, "a multipart body needs a boundary in its Content-Type")
    if len(boundary) > MOST_BOUNDARY_BYTES:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"a multipart boundary has at most {MOST_BOUNDARY_BYTES} characters")
    parts = _Parts(folder)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for chunk in body(request, most_bytes, limits):
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"not a multipart body: {error}") from None
    finally:
        parts.close()
    if not parts.finished:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the multipart body ends before its last boundary")
    return parts.form


async def body(request: Request, most_bytes: int, limits: Limits, **said: str) -> AsyncIterator[bytes]:
    """The body's chunks; Refusal(413) beyond ``most_bytes``, before the first byte where its length says so."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most_bytes:
        raise too_large(most_bytes, **said)
    total, started = 0, time.monotonic()
    chunks = request.stream().__aiter__()
    while True:
        try:
            may_take_s = min(limits.upload_s, limits.stall_s + total / SLOWEST_BYTES_PER_S)
            patience_s = min(limits.stall_s, max(0.0, started + may_take_s - time.monotonic()))
            chunk = await asyncio.wait_for(anext(chunks), patience_s)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the body came too slowly", remedy="send it again") from None
        except ClientDisconnect:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body broke off") from None
        total += len(chunk)
        if total > most_bytes:
            raise too_large(most_bytes, **said)
        yield chunk


def safe_name(name: str) -> str:
    """A client's file name, reduced to what can stand in a log line, a CSV cell and a file name."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w. -]+", "_", last, flags=re.ASCII).strip(" ._-")[:100] or "clip"


def _no_constant(text: str) -> Any:
    raise ValueError(text)


class _Parts:
    """Takes the parser's events: text into fields, files to disk."""

    def __init__(self, folder: Path) -> None:
        self.form, self.finished = Form(), False
        self._folder, self._count = folder, 0
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._field, self._text = "", bytearray()
        self._file: BinaryIO | None = None

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._count += 1
        if self._count > MOST_PARTS:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"more than {MOST_PARTS} parts in a multipart body")
        self._disposition, self._field, self._text = b"", "", bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        if len(self._header_name) > MOST_HEADER_BYTES:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a part's header has too long a name")

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        if len(self._header_value) > MOST_FIELD_BYTES:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a part's header is too long")

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a part of the multipart body has no name")
        self._field = name.decode("utf-8", "replace")
        if b"filename" in options:
            path = self._folder / str(self._count)
            self._file = path.open("wb")
            self.form.files.append((self._field, options[b"filename"].decode("utf-8", "replace"), path))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MOST_FIELD_BYTES:
            what = f"the field {self._field!r} has more than {MOST_FIELD_BYTES} bytes"
            raise Refusal(HTTPStatus.BAD_REQUEST, what, remedy="send a file with a file name")

    def _on_part_end(self) -> None:
        if self._file is None:
            self.form.fields[self._field] = self._text.decode("utf-8", "replace")
        self.close()

    def _on_end(self) -> None:
        self.finished = True

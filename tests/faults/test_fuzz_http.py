"""Mutated bytes, continued: bodies, headers and messages end as what they say or as a refusal.

Whole requests to a whole server: ``tests/ray/test_serve.py`` and ``test_serving_faults.py``.
"""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.websockets import WebSocket
from tests.faults.test_fuzz import ROUNDS, mutations

from specktrack.serving import streams, uploads
from specktrack.serving.access import Keys, is_of_this_machine
from specktrack.serving.config import Limits
from specktrack.serving.problems import Refusal

LIMITS = Limits(body_bytes=100_000, picture_bytes=1000, session_idle_s=5.0)
FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n'
    b'--B\r\nContent-Disposition: form-data; name="clip"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\nbytes\r\n'
    b"--B--\r\n"
)
JSON = b'{"clips": [{"uri": "s3://bucket/a.mp4", "stream": 0}], "model": "tiny", "fps": 30.0, "overlay": true}'


def request(body: bytes, content_type: bytes, *, piece: int = 37) -> Request:
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)] or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", content_type)]}, receive)


def test_multipart_bodies(tmp_path):
    def receive(body: bytes, kind: bytes) -> uploads.Form:
        return asyncio.run(uploads.receive_form(request(body, kind), tmp_path, LIMITS, most_bytes=100_000))

    kind = b"multipart/form-data; boundary=B"
    assert receive(FORM, kind).fields == {"model": "tiny"}
    for body, said in [*((data, kind) for data in mutations(FORM, ROUNDS, 1)),
                       *((FORM, data) for data in mutations(kind, ROUNDS // 5, 2))]:  # fmt: skip
        try:
            form = receive(body, said)
        except Refusal as refusal:
            assert refusal.status == 400
            continue
        assert all(path.parent == tmp_path and path.name.isdigit() for _, _, path in form.files)
    assert all(path.name.isdigit() for path in tmp_path.iterdir())


def test_json_bodies():
    for body in (JSON, *mutations(JSON, ROUNDS, 3)):
        try:
            asyncio.run(uploads.receive_json(request(body, b"application/json"), LIMITS))
        except Refusal as refusal:
            assert refusal.status == 400 and body != JSON


async def read(message: dict[str, Any]) -> streams.Arrivals:
    """What the reader of a WebSocket takes from a client that says this and goes."""
    coming = [{"type": "websocket.connect"}, message, {"type": "websocket.disconnect", "code": 1006}]

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    async def send(_: object) -> None:
        """Nobody listens."""

    socket = WebSocket({"type": "websocket", "headers": []}, receive, send)
    await socket.accept()
    gateway: Any = SimpleNamespace(config=SimpleNamespace(limits=LIMITS))  # all of it that a reader looks at
    arrivals = streams.Arrivals()
    reader = asyncio.create_task(streams._read(gateway, socket, arrivals))
    ended = asyncio.create_task(arrivals.get())
    await asyncio.wait({reader, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if reader.done():
        reader.result()
    reader.cancel()
    return arrivals


def test_websocket_messages():
    end = b'{"end": true}'
    for data in (end, *mutations(end, ROUNDS, 4)):
        text = {"type": "websocket.receive", "text": data.decode("utf-8", "replace")}
        try:
            asyncio.run(read(text))
        except Refusal as refusal:
            assert refusal.status == 400 and data != end


@pytest.mark.parametrize(
    ("seed", "read"),
    [
        (b"Bearer " + b"k" * 32, lambda text: Keys(["k" * 32]).check(text)),
        (b"bearer." + b"k" * 32, lambda text: Keys(["k" * 32]).check_websocket(None, text.split(","))),
        (b"[::1]:8000", is_of_this_machine),
        (b"a/b/clip.mp4", uploads.safe_name),
    ],
    ids=["authorization", "subprotocol", "host", "file name"],
)
def test_headers(seed: bytes, read: Callable[[str], object]) -> None:
    assert read(seed.decode()) is not False
    let_in = 0
    for data in mutations(seed, ROUNDS, 5):
        try:
            read(data.decode("latin-1"))
            let_in += 1
        except Refusal as refusal:
            assert refusal.status == 401 and json.loads(json.dumps(refusal.what))
    assert not seed.lower().startswith(b"bearer") or let_in < ROUNDS / 5, "keys that are not the key"

"""The client against a server that answers as told: what it asks again, for how long, and what it sends."""

import asyncio
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.clock import Clock
from websockets.sync.server import ServerConnection, serve

import specktrack
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.serving import client as client_module
from specktrack.serving.answers import Batch, BatchState
from specktrack.serving.client import AsyncClient, Client, ServerError

ROWS = pa.table({"frame": [0, 1]})
BATCH = Batch(id="b", state=BatchState.RUNNING, sources=("v",), output="o", model="m", created_s=0)
PROBLEM = b'{"title": "t", "status": 0, "detail": "no luck"}'
Answer = tuple[int, dict[str, str], bytes]


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(ROWS, sink)
    return sink.getvalue()


DONE: Answer = (200, {}, parquet())


class Server(ThreadingHTTPServer):
    """Gives one answer after another; the last for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.bodies: list[bytes] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers["Idempotency-Key"])
        self.do_GET()

    def do_GET(self) -> None:
        status, headers, body = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "first",
    [
        (503, {"Retry-After": "0"}, PROBLEM),
        (503, {"Retry-After": formatdate(time.time() - 5, usegmt=True)}, PROBLEM),
        (500, {"Retry-After": "0"}, b"Internal Server Error"),  # Ray's proxy, when the ingress replica died
        (502, {"Retry-After": "0"}, b"<html>Bad Gateway</html>"),
        (504, {"Retry-After": "0"}, b""),
    ],
)
def test_a_clip_is_sent_again_from_its_beginning(server: Server, tmp_path: Path, first: Answer) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"a clip's bytes" * 10_000)
    server.answers = [first, DONE]
    with Client(server.url) as client:
        assert client.annotate(tmp_path / "clip.mp4").equals(ROWS)
    assert len(server.bodies) == 2 and all(b"a clip's bytes" * 10_000 in body for body in server.bodies)


@pytest.mark.parametrize("status", [404, 422, 500, 504])
def test_what_the_server_itself_said_is_final(server: Server, status: int) -> None:
    """Its own 504 is a clip that takes too long, and would again."""
    server.answers = [(status, {}, PROBLEM)]
    with Client(server.url) as client, pytest.raises(ServerError, match="no luck"):
        client.annotate(b"clip")
    assert len(server.bodies) == 1


def test_a_batch_is_asked_for_again_under_the_same_key(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a clip's bytes")
    batch: Answer = (202, {}, BATCH.model_dump_json().encode())
    for sources in (["videos"], [tmp_path / "a.mp4"]):
        server.bodies, server.keys = [], []
        server.answers = [(503, {"Retry-After": "0"}, PROBLEM), batch]
        with Client(server.url) as client:
            assert client.start_batch(sources, "one", overlap=1).id == "b"
        assert len(server.bodies) == 2 and len(set(server.keys)) == 1 and server.keys[0]
        assert isinstance(sources[0], str) or all(b"a clip's bytes" in body for body in server.bodies)
    with Client(server.url) as client, pytest.raises(ConfigError, match="or files to send"):
        client.start_batch(["videos", tmp_path / "a.mp4"])


def test_a_clip_that_becomes_a_batch_is_waited_for(server: Server) -> None:
    for state, said in ((BatchState.DONE, None), (BatchState.FAILED, "the batch of the clip failed: no room")):
        ended = BATCH.model_copy(update={"state": state, "error": "no room"})
        server.answers = [
            (202, {}, BATCH.model_dump_json().encode()),
            (200, {}, ended.model_dump_json().encode()),
            DONE,
        ]
        with Client(server.url) as client:
            if said is None:
                assert client.annotate(b"clip").equals(ROWS)
            else:
                with pytest.raises(ServerError, match=said):
                    client.annotate(b"clip")


def test_whatever_goes_wrong_is_an_error_of_the_package(server: Server, tmp_path: Path) -> None:
    with Client("http://127.0.0.1:1", tries=1) as nobody:
        with pytest.raises(ServerError, match="no answer from the server") as unreached:
            nobody.models()
        with pytest.raises(ServerError, match="no answer from the server"):
            next(nobody.stream([b"picture"]))
    assert unreached.value.status == 503
    server.answers = [(200, {}, b"half a table")]
    with Client(server.url) as client:
        with pytest.raises(ServerError, match="not a Parquet file"):
            client.annotate(b"clip")
        with pytest.raises(ConfigError, match="cannot read the clip"):
            client.annotate(tmp_path / "gone.mp4")
        with pytest.raises(ConfigError, match="did you mean 'overlap'"):
            client.annotate(b"clip", overlp=1)


def test_neither_ray_nor_torch_is_loaded() -> None:
    code = "import sys, specktrack.serving.client; sys.exit(bool({'ray', 'torch', 'fastapi'} & sys.modules.keys()))"
    own = {**os.environ, "PYTHONPATH": str(Path(specktrack.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=own).returncode == 0


def test_a_file_is_not_read_whole(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(bytes(1_000_000))
    monkeypatch.setattr(Path, "read_bytes", None)
    server.answers = [DONE]

    async def annotate() -> pa.Table:
        async with AsyncClient(server.url) as client:
            return await client.annotate(tmp_path / "clip.mp4")

    assert asyncio.run(annotate()).equals(ROWS)
    assert len(server.bodies[0]) > 1_000_000


def test_every_form_of_retry_after_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "time", clock := Clock())
    date = formatdate(clock.now_s + 7000, usegmt=True)
    for said, seconds in {"7": 7.0, "soon": 1.0, "1e999": 1.0, date: 7000.0}.items():
        assert client_module._retry_after_s(said) == seconds


def test_waiting_for_a_batch_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    running: Answer = (200, {}, BATCH.model_dump_json().encode())
    done: Answer = (200, {}, BATCH.model_copy(update={"state": BatchState.DONE}).model_dump_json().encode())
    server.answers = [running, running, done]
    with Client(server.url) as client, monkeypatch.context() as patch:
        patch.setattr(client_module, "time", clock := Clock())
        began_s = clock.now_s
        assert client.wait("b", timeout_s=20).state == "done" and clock.now_s == began_s + 2
        server.answers = [running]
        with pytest.raises(TimeoutError, match=r"b is still running after 2\.5 s") as late:
            client.wait("b", timeout_s=2.5)
        assert isinstance(late.value, SpecktrackError)
        assert clock.now_s == began_s + 4.5

    async def wait() -> None:
        async with AsyncClient(server.url) as client:
            await client.wait("b", timeout_s=0.1)

    with pytest.raises(TimeoutError, match="still running"):  # after however many looks
        asyncio.run(wait())


def test_a_stream_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    def leave(socket: ServerConnection) -> None:
        socket.recv()
        socket.send('{"frames": 1, "rows": []}')
        socket.close(1001)  # as a server that goes away

    async def follow(url: str) -> None:
        async with AsyncClient(url) as client:
            async for rows in client.stream([b"picture"]):
                assert rows == []

    with serve(leave, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(ServerError, match="before the end of the stream"):
            asyncio.run(follow(f"http://127.0.0.1:{server.socket.getsockname()[1]}"))
        server.shutdown()
        thread.join()


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files("specktrack").joinpath("py.typed").is_file()

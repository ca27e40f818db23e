"""How clips reach the server and rows leave it: uploads, links, places, formats."""

import asyncio
import errno
import http.server
import io
import json
import os
import pickle
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from starlette.requests import Request
from tests.clock import Clock

from specktrack.errors import ConfigError, StorageError
from specktrack.frames import Trajectory
from specktrack.serving import clip_routes, formats, uploads
from specktrack.serving.access import Keys
from specktrack.serving.answers import Wanted
from specktrack.serving.config import (
    Access,
    Limits,
    ServeConfig,
)
from specktrack.serving.fetch import check, fetch, is_allowed
from specktrack.serving.gateway import Gateway
from specktrack.serving.health import Pace
from specktrack.serving.places import allowed_place
from specktrack.serving.problems import LongerThanAllowed, Refusal, headers_of, problem_of
from specktrack.serving.replica import ClipFollower
from specktrack.tracking.tracker import tracker_of
from specktrack.video import write_video
from specktrack.video.process import DecoderProcess

SMALL = Limits(body_bytes=1000, frames=100, pixels=100_000, picture_bytes=100_000)


def rows() -> pa.Table:
    xy_px = np.array([[1.5, 2.0], [np.nan, np.nan]], np.float32)
    return Trajectory(np.arange(2), np.arange(2) / 30, xy_px, np.array([0.9, 0.1], np.float32)).to_rows("v.mp4")


class TestFormats:
    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            (None, "application/json"),
            ("*/*", "application/json"),
            ("text/html, */*;q=0.1", "application/json"),
            ("text/csv", "text/csv"),
            ("text/*;q=0.5, application/vnd.apache.parquet;q=0.9", "application/vnd.apache.parquet"),
            ("application/json;q=0, text/csv;q=0.1", "text/csv"),
            ("*/*, application/json;q=0", "text/csv"),
            ("*/*, text/csv", "text/csv"),
            ("application/*;q=0.1, application/vnd.apache.parquet;q=0, text/csv;q=0.05", "application/json"),
            ("text/csv;q=nan, application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ],
    )
    def test_the_client_chooses(self, accept: str | None, kind: str) -> None:
        assert formats.choose(accept) == kind

    @pytest.mark.parametrize("accept", ["*/*;q=0", "text/csv;q=0", "text/csv;q=soon", ",", "application/json;q=-1"])
    def test_who_wants_nothing_gets_406(self, accept: str) -> None:
        with pytest.raises(Refusal, match="accept one of"):
            formats.choose(accept)

    def test_what_nobody_makes_is_406(self) -> None:
        with pytest.raises(Refusal, match=r"image/png.*accept one of") as refusal:
            formats.choose("image/png")
        assert refusal.value.status == 406

    def test_json_says_null_where_the_object_is_absent(self) -> None:
        said = json.loads(b"".join(formats.to_json([rows()], {"fps": 30.0, "video": "v"})))
        assert said["fps"] == 30.0 and said["rows"][1]["x"] is None and "video" not in said["rows"][0]

    @pytest.mark.parametrize("kind", formats.FORMATS)
    def test_tables_that_come_one_after_another_are_one_answer(self, kind: str) -> None:
        read: dict[str, Callable[[bytes], pa.Table]] = {
            formats.JSON: lambda data: pa.Table.from_pylist(json.loads(data)["rows"]),
            formats.NDJSON: lambda data: pa.json.read_json(io.BytesIO(data)),
            formats.ARROW: lambda data: pa.ipc.open_stream(data).read_all(),
            "text/csv": lambda data: pa.csv.read_csv(io.BytesIO(data)),
            "application/vnd.apache.parquet": lambda data: pq.read_table(io.BytesIO(data)),
        }
        other = rows().set_column(0, "video", pa.array(["w"] * rows().num_rows))
        for tables in ([], [rows()], [rows(), other]):
            pieces = list(formats.FORMATS[kind](tables, {"batch": "b"}))
            table = read[kind](b"".join(pieces)) if tables or kind not in (formats.JSON, formats.NDJSON) else None
            assert (table.num_rows if table else 0) == sum(each.num_rows for each in tables)
            if len(tables) == 2 and table is not None:
                assert table["video"].to_pylist()[-1] == "w" and len(pieces) > len(tables) - (kind == formats.NDJSON)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8), fps=25, wh=(64, 48))
    return path.read_bytes()


class TestFollowing:
    def follow(self, clip: bytes, *, wanted: Wanted = Wanted(), most_s: float | None = None) -> list[Any]:  # noqa: B008
        told: list[Any] = []
        tracker, decoder = tracker_of("specknet", device="cpu", overlap=1), DecoderProcess(held=clip)
        follower = ClipFollower(tracker, decoder, "clip", told.append, most_s)
        assert follower.follow(len(clip), wanted) == 0
        return told

    def test_a_clip_in_memory_is_followed_and_its_rows_are_told_as_they_become_final(self, clip: bytes) -> None:
        facts, *tables = self.follow(clip)
        assert (facts["frames"], facts["wanted"], facts["width"]) == (40, 40, 64) and len(tables) > 1
        whole = pa.concat_tables(tables).to_pylist()
        assert [row["frame"] for row in whole] == list(range(40))
        facts, *tables = self.follow(clip, wanted=Wanted(10, 25))
        assert facts["wanted"] == 15 and pa.concat_tables(tables).to_pylist() == whole[10:25]

    def test_one_that_would_take_too_long_is_given_up_as_soon_as_that_shows(
        self, clip: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("specktrack.serving.replica.PROJECTED_AFTER_S", 0.0)
        with pytest.raises(LongerThanAllowed, match="would take about"):
            self.follow(clip, most_s=1e-3)
        assert pickle.loads(pickle.dumps(LongerThanAllowed(700.0, 600.0))).args == (700.0, 600.0)
        assert problem_of(LongerThanAllowed(700.0, 600.0)).status == 413


def test_progress_counts_frames_however_many_objects_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_routes, "PROGRESS_EVERY_S", 0.0)
    two = pa.concat_tables([rows(), rows()])

    async def told() -> AsyncGenerator[Any]:
        yield two
        yield {"decode_errors": 0}

    async def lines() -> list[dict[str, Any]]:
        return [json.loads(line) async for part in clip_routes._ndjson({}, 10, told()) for line in part.splitlines()]

    (progress,) = [line for line in asyncio.run(lines()) if line.get("event") == "progress"]
    assert (progress["done"], progress["frames"]) == (rows().num_rows, 10) and progress["left_s"] >= 0


class TestPace:
    def test_a_busy_server_names_a_time_that_it_measured(self) -> None:
        pace = Pace()
        assert pace.retry_after_s == 1
        for seconds in (8.0, 30.0, 12.0):
            pace.add(seconds)
        assert pace.retry_after_s == 3
        busy = problem_of(Refusal(503, "busy", retry_after_s=pace.retry_after_s))
        assert headers_of(busy) == {"Retry-After": "3"} and busy.retry_after_s == 3
        assert headers_of(problem_of(Refusal(404, "no"))) == {}


PART = b'--B\r\nContent-Disposition: form-data; name="clip"; filename="a"\r\n\r\n'


class TestUploads:
    def receive(self, chunks: list[bytes], content_type: str, folder: Path) -> uploads.Form:
        waiting = list(chunks)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

        scope = {"type": "http", "headers": [(b"content-type", content_type.encode())], "method": "POST"}
        request = Request(scope, receive)
        return asyncio.run(uploads.receive_form(request, folder, SMALL, most_bytes=SMALL.body_bytes))

    def test_files_lie_under_numbers_whatever_they_are_called(self, tmp_path: Path) -> None:
        body = (
            b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\ntiny\r\n'
            b'--B\r\nContent-Disposition: form-data; name="clip"; filename="../../etc/passwd"\r\n\r\nbytes\r\n--B--\r\n'
        )
        halves = [body[:70], body[70:90], body[90:]]
        form = self.receive(halves, "multipart/form-data; boundary=B", tmp_path)
        assert form.fields == {"model": "tiny"}
        assert form.files == [("clip", "../../etc/passwd", tmp_path / "2")]
        assert (tmp_path / "2").read_bytes() == b"bytes" and len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        ("body", "boundary", "status"),
        [
            (b"x", "", 400),
            (b"not multipart", "; boundary=B", 400),
            (PART + b"by", "; boundary=B", 400),
            (b"--B\r\nContent-Disposition: form-data\r\n\r\nby\r\n--B--", "; boundary=B", 400),
            (PART + b"x" * 2000, "; boundary=B", 413),
            (b"x", f"; boundary={'B' * 71}", 400),
            (b"x", f"; boundary={'B' * 100_000}", 400),
        ],
    )
    def test_bodies_that_are_not_as_they_should_be(
        self, tmp_path: Path, body: bytes, boundary: str, status: int
    ) -> None:
        with pytest.raises(Refusal) as refusal:
            self.receive([body], f"multipart/form-data{boundary}", tmp_path)
        assert refusal.value.status == status

    @pytest.mark.parametrize(
        ("limit", "chunks"),
        [({"stall_s": 0.01}, 1), ({"upload_s": 60.0, "stall_s": 60.0}, 7), ({"upload_s": 3600.0, "stall_s": 20.0}, 4)],
    )
    def test_a_body_that_stalls_or_trickles_is_408(
        self, monkeypatch: pytest.MonkeyPatch, limit: dict[str, float], chunks: int
    ) -> None:
        monkeypatch.setattr(uploads, "time", clock := Clock())

        async def receive() -> dict[str, Any]:
            if limit["stall_s"] < 1:
                await asyncio.Event().wait()
            clock.now_s += 10
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def received() -> None:
            request = Request({"type": "http", "headers": []}, receive)
            async for chunk in uploads.body(request, 1000, Limits(**limit)):
                came.append(chunk)

        came: list[bytes] = []
        with pytest.raises(Refusal, match="too slowly") as refusal:
            asyncio.run(received())
        assert refusal.value.status == 408 and len(came) == chunks - 1

    def test_a_body_that_comes_steadily_may_take_its_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uploads, "time", clock := Clock())
        left = [b"x" * 100_000] * 60

        async def receive() -> dict[str, Any]:
            clock.now_s += 10
            return {"type": "http.request", "body": left.pop(), "more_body": bool(left)}

        async def received() -> int:
            request = Request({"type": "http", "headers": []}, receive)
            return sum([len(chunk) async for chunk in uploads.body(request, 10**9, Limits(upload_s=3600.0))])

        assert asyncio.run(received()) == 6_000_000

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_507(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "open", full)
        with pytest.raises(OSError, match=os.strerror(number)) as error:
            self.receive([PART + b"bytes\r\n--B--\r\n"], "multipart/form-data; boundary=B", tmp_path)
        problem = problem_of(error.value)
        assert problem.status == 507 and "disk is full" in problem.detail

    def test_what_is_too_large_names_the_ceiling_that_it_met(self, tmp_path: Path) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x" * 1_000_001, "more_body": False}

        with pytest.raises(Refusal, match="a JSON body of more than 1,000,000 bytes") as refusal:
            asyncio.run(uploads.receive_json(Request({"type": "http", "headers": []}, receive), SMALL))
        assert refusal.value.status == 413
        with pytest.raises(Refusal, match="a clip of more than 1,000 bytes"):
            self.receive([PART + b"x" * 2000], "multipart/form-data; boundary=B", tmp_path)
        with pytest.raises(Refusal, match="too long a name"):
            self.receive([b"--B\r\n" + b"x" * 300 + b": y\r\n"], "multipart/form-data; boundary=B", tmp_path)

    @pytest.mark.parametrize("text", ["NaN", '{"uri": Infinity}', "{", "[" * 100_000])
    def test_json_is_json(self, text: str) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": text.encode(), "more_body": False}

        with pytest.raises(Refusal, match="not JSON"):
            asyncio.run(uploads.receive_json(Request({"type": "http", "headers": []}, receive), SMALL))

    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("my clip.mp4", "my clip.mp4"),
            ("../../etc/passwd", "passwd"),
            ("C:\\temp\\a.mp4", "a.mp4"),
            ("=cmd()|' /C calc'!A0", "C calc_A0"),
            ("<script>alert(1)</script>", "script"),
            ("\n\r\0", "clip"),
            ("ぼーる.mp4", "mp4"),
            ("x" * 5000, "x" * 100),
        ],
    )
    def test_names_are_harmless_wherever_they_go(self, name: str, safe: str) -> None:
        assert uploads.safe_name(name) == safe


PRIVATE = [
    "127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:a00:1", "169.254.169.254", "fd00:ec2::254", "10.1.2.3",
    "172.16.0.1", "192.168.0.1", "100.64.0.1", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "fe80::1%eth0",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "198.18.0.1", "240.0.0.1", "ff02::1",
    "192.0.0.192", "192.88.99.1", "168.63.129.16", "::127.0.0.1", "::ffff:0:127.0.0.1", "2001:db8::1", "3fff::1",
    "5f00::1", "2001:0:7f00:1:0:0:80ff:fffe",
]  # fmt: skip


class Listener(http.server.ThreadingHTTPServer):
    """A host that redirects, promises and lies; counts who came."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((address, port), _Handler)
        self.port, self.paths, self.connections = self.server_address[1], list[str](), 0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        places = {
            "/to/clip": "../clip", "/to-other-host": f"http://127.0.0.1:{self.server.port}/secret",
            "/to-file": "file:///etc/passwd", "/to-metadata": "http://169.254.169.254/", "/for-ever": "/for-ever",
        }  # fmt: skip
        places |= {f"/hops/{number}": f"/hops/{number - 1}" for number in range(2, 7)} | {"/hops/1": "/clip"}
        bodies = {"/clip": b"clip bytes", "/secret": b"secret", "/large-unannounced": b"x" * 5000, "/short": b"abc"}
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
        elif self.path == "/large":
            self.send_response(200)
            self.send_header("Content-Length", "20000000000")
            self.end_headers()
        elif self.path in bodies:
            self.send_response(200)
            if self.path == "/short":
                self.send_header("Content-Length", "999")
            self.end_headers()
            self.wfile.write(bodies[self.path])
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class TestFetch:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_no_address_but_public_ones(self, address: str) -> None:
        assert not is_allowed(address, Access())

    def test_public_and_listed_addresses(self) -> None:
        assert is_allowed("93.184.216.34", Access()) and is_allowed("2606:2800:220:1::1", Access())
        assert is_allowed("64:ff9b::5db8:d822", Access())
        assert is_allowed("10.2.3.4", Access(networks=("10.2.0.0/16",)))
        assert not is_allowed("10.3.3.4", Access(networks=("10.2.0.0/16",)))

    @pytest.mark.parametrize(
        "url",
        [
            "http://videos.example.org/a.mp4", "ftp://videos.example.org/a", "file:///etc/passwd", "data:,x", "",
            "gopher://videos.example.org/", "concat:a|b", "subfile,,start,0,end,9,,:/etc/passwd", "https:///a",
            "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://localhost./",
            "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://videos.example.org@169.254.169.254/",
            "https://169.254.169.254#videos.example.org/", "https://videos.example.org.evil.com/",
            "https://videos.example.org:22/", "https://videos.example.org\\@evil.com/", "https://videos.example.org /",
            "https://videos.example.org\n/", "https://videos.example.org%00.evil.com/", "https://[fe80::1%25eth0]/",
            "https://user:pass@videos.example.org/", "https://videos.example.org:99999/", "https://[::1", "//x/y",
        ],
    )  # fmt: skip
    def test_urls_that_are_refused_before_a_name_is_looked_up(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody_looks_up(*_: object, **__: object) -> Any:
            raise AssertionError("a name was looked up")

        monkeypatch.setattr("socket.getaddrinfo", nobody_looks_up)
        with pytest.raises(Refusal) as refusal:
            check(url, Access(hosts=("videos.example.org",)))
        assert refusal.value.status == 403

    def test_a_listed_name_with_one_private_address_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = [(0, 0, 0, "", ("93.184.216.34", 443)), (0, 0, 0, "", ("10.0.0.1", 443))]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
        with pytest.raises(Refusal, match="must not be fetched from"):
            check("https://videos.example.org/a", Access(hosts=("videos.example.org",)))

    def test_the_connection_goes_to_the_checked_address_and_each_redirect_is_checked(
        self, tmp_path: Path, listener: "Listener"
    ) -> None:
        hosts = (f"localhost:{listener.port}",)
        loopback = Access(hosts=hosts, schemes=("http",), networks=("127.0.0.0/8", "::1/128"))
        fetch(f"http://localhost:{listener.port}/to/clip", tmp_path / "clip", loopback, SMALL)
        assert (tmp_path / "clip").read_bytes() == b"clip bytes"
        fetch(f"http://localhost:{listener.port}/hops/5", tmp_path / "clip", loopback, SMALL)
        assert (tmp_path / "clip").read_bytes() == b"clip bytes"
        seen = len(listener.paths)
        for path, status in {
            "/hops/6": 403,
            "/to-other-host": 403, "/to-file": 403, "/to-metadata": 403, "/for-ever": 403, "/large": 413,
            "/large-unannounced": 413,
        }.items():  # fmt: skip
            with pytest.raises(Refusal) as refusal:
                fetch(f"http://localhost:{listener.port}{path}", tmp_path / "clip", loopback, SMALL)
            assert refusal.value.status == status, path
        assert "/secret" not in listener.paths[seen:]
        with pytest.raises(StorageError, match=r"broke off|an invalid answer"):
            fetch(f"http://localhost:{listener.port}/short", tmp_path / "clip", loopback, SMALL)
        with pytest.raises(ConfigError, match="404"):
            fetch(f"http://localhost:{listener.port}/nothing", tmp_path / "clip", loopback, SMALL)

    def test_a_name_that_is_bound_anew_changes_nothing(
        self, tmp_path: Path, listener: "Listener", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The checked address, here 127.0.0.2, is another host than the one that the second answer names."""
        other = Listener("127.0.0.2", listener.port)
        answers, look_up = ["127.0.0.2", "127.0.0.1"], socket.getaddrinfo

        def rebinding(host: str, *more: Any, **options: Any) -> Any:
            return look_up(answers.pop(0) if host == "videos.example.org" else host, *more, **options)

        monkeypatch.setattr("socket.getaddrinfo", rebinding)
        hosts = (f"videos.example.org:{listener.port}",)
        before, thread = listener.connections, threading.Thread(target=other.handle_request)
        thread.start()
        access = Access(hosts=hosts, schemes=("http",), networks=("127.0.0.2/32",))
        fetch(f"http://{hosts[0]}/clip", tmp_path / "clip", access, SMALL)
        thread.join()
        other.server_close()
        assert (other.connections, listener.connections, answers) == (1, before, ["127.0.0.1"])

    def test_the_next_address_is_tried_where_one_does_not_answer(
        self, tmp_path: Path, listener: "Listener", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = [(0, 0, 0, "", (address, listener.port)) for address in ("127.0.0.3", "127.0.0.1")]
        real = socket.getaddrinfo
        monkeypatch.setattr(
            "socket.getaddrinfo", lambda host, *more, **rest: answers if host == "two" else real(host, *more, **rest)
        )
        access = Access(hosts=(f"two:{listener.port}",), schemes=("http",), networks=("127.0.0.0/8",))
        fetch(f"http://two:{listener.port}/clip", tmp_path / "clip", access, SMALL)
        assert (tmp_path / "clip").read_bytes() == b"clip bytes"

    def test_without_a_network_list_loopback_gets_no_packet(self, tmp_path: Path, listener: "Listener") -> None:
        access = Access(hosts=(f"localhost:{listener.port}",), schemes=("http",))
        before = listener.connections
        with pytest.raises(Refusal):
            fetch(f"http://localhost:{listener.port}/secret", tmp_path / "clip", access, SMALL)
        assert listener.connections == before

    def test_a_host_that_never_answers_holds_no_caller(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            gateway = Gateway.__new__(Gateway)  # without the server around it
            access = Access(hosts=(host,), schemes=("http",), networks=("127.0.0.0/8",))
            gateway.config = ServeConfig(access=access, limits=Limits(upload_s=0.2, stall_s=60))
            gateway._fetches = ThreadPoolExecutor(1)
            with pytest.raises(TimeoutError):
                asyncio.run(gateway.fetch_clip(f"http://{host}/clip", tmp_path / "clip"))
            assert problem_of(TimeoutError()).status == 504
        gateway._fetches.shutdown()


class TestKeys:
    """The bearer check, of requests and of WebSockets."""

    KEYS = Keys(("a" * 32, "b" * 32))

    @pytest.mark.parametrize("header", [f"Bearer {'a' * 32}", f"bearer  {'b' * 32} "])
    def test_a_key_lets_in(self, header: str) -> None:
        self.KEYS.check(header)
        assert self.KEYS.check_websocket(header, ()) is None
        offered = f"bearer.{'b' * 32}"
        assert self.KEYS.check_websocket(None, ("chat", offered)) == offered
        assert Keys(()).check_websocket(None, ()) is None

    @pytest.mark.parametrize("header", [None, "", "Bearer", f"Bearer {'c' * 32}", f"Basic {'a' * 32}", "a" * 32])
    def test_nothing_else_does(self, header: str | None) -> None:
        for attempt in (
            lambda: self.KEYS.check(header),
            lambda: self.KEYS.check_websocket(header, ()),
            lambda: self.KEYS.check_websocket(header, ("chat",)),
            lambda: self.KEYS.check_websocket(header, (f"bearer.{'c' * 32}",)),
            lambda: self.KEYS.check_websocket(f"Bearer {'a' * 32}", ("bearer.wrong",)),
        ):
            with pytest.raises(Refusal) as refusal:
                attempt()
            assert refusal.value.status == 401


class TestPlaces:
    def test_only_below_the_roots(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "secret").mkdir()
        (tmp_path / "in" / "out").symlink_to(tmp_path / "secret")
        roots = (str(tmp_path / "in"), "s3://bucket/videos")
        assert allowed_place("a.mp4", roots, "sources") == (tmp_path / "in" / "a.mp4").as_uri()
        assert allowed_place("s3://bucket/videos/a", roots, "sources") == "s3://bucket/videos/a"
        (tmp_path / "in" / "loop").symlink_to("loop")
        assert allowed_place("loop/a.mp4", roots, "sources").endswith("in/loop/a.mp4")  # whoever opens it is refused
        for place in (
            "../secret", "/etc/passwd", "s3://bucket/videos2/a", "s3://other/a", "out/x.mp4", "@list.txt", "x" * 5000,
            f"{tmp_path}/in/../secret", "https://x/y", "s3://bucket/videos/../x", "file://host/etc", "a\0b",
        ):  # fmt: skip
            with pytest.raises(Refusal) as refusal:
                allowed_place(place, roots, "sources")
            assert refusal.value.status == 403, place
        with pytest.raises(Refusal, match="no sources set up"):
            allowed_place("a.mp4", (), "sources")

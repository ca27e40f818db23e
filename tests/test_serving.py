"""The parts of the server that need no Ray: what is let in, decoded, fetched and refused."""

import asyncio
import http.server
import io
import json
import pickle
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext
from ray.serve.schema import DeploymentSchema
from starlette.requests import Request
from tests.annotating import WH, tiny_model
from tests.clock import Clock

from specktrack.errors import ConfigError, MediaError, StorageError
from specktrack.frames import Trajectory
from specktrack.models.checkpoint import load_model
from specktrack.models.inference import Detector
from specktrack.options import parse
from specktrack.serving import batch_records, formats, passes, uploads
from specktrack.serving.access import Keys, is_of_this_machine
from specktrack.serving.api import _Outermost, _session_routes
from specktrack.serving.batch_records import BatchRecords, BatchState
from specktrack.serving.batches import BatchReplica
from specktrack.serving.config import (
    Access,
    Limits,
    ServeConfig,
    ServerConfig,
    check_cluster,
    check_public_bind,
    is_public,
)
from specktrack.serving.fetch import check, fetch, is_allowed
from specktrack.serving.gateway import Gateway, url_of
from specktrack.serving.passes import Pulse, Window, forward
from specktrack.serving.places import allowed_place
from specktrack.serving.problems import Refusal, problem_of
from specktrack.serving.scaling import keep_sessions
from specktrack.serving.server import _is_ready, check_keys
from specktrack.serving.sessions import LiveSession, Sessions
from specktrack.serving.streams import MOST_WAITING, MOST_WAITING_BYTES, Arrivals
from specktrack.serving.tracking import decode_limits
from specktrack.storage import stat
from specktrack.tracking import Tracker, make_tracker
from specktrack.video import write_video
from specktrack.video.process import DecoderProcess

ROOT = Path(__file__).parents[1]
SMALL = Limits(body_bytes=1000, frames=100, pixels=100_000, picture_bytes=100_000)


def rows() -> pa.Table:
    xy_px = np.array([[1.5, 2.0], [np.nan, np.nan]], np.float32)
    return Trajectory(np.arange(2), np.arange(2) / 30, xy_px, np.array([0.9, 0.1], np.float32)).to_rows("v.mp4")


class TestSettings:
    def test_a_ray_serve_file_gives_the_settings_and_options_win(self) -> None:
        config, _ = parse("serve", ["--config", str(ROOT / "serve_config.yaml"), "--port", "8123"])
        assert isinstance(config, ServerConfig)
        assert (config.host, config.port, config.models) == ("127.0.0.1", 8123, ("specknet", "speckdimp"))
        assert config.access.outputs == ("demo-output/batches",)
        assert {deployment["name"] for deployment in config.deployments} == {
            "Gateway",
            "Windowed",
            "Template",
            "Batches",
        }

    def test_an_unknown_key_in_the_args_is_named(self, tmp_path: Path) -> None:
        text = (ROOT / "serve_config.yaml").read_text().replace("models:", "modles:")
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(ConfigError, match="unknown key 'modles'; did you mean 'models'"):
            ServerConfig.parse(yaml_file=tmp_path / "s.yaml")

    def test_another_application_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "s.yaml").write_text("applications: [{import_path: 'other:app'}]")
        with pytest.raises(ConfigError, match=r"specktrack.serving:build"):
            ServerConfig.parse(yaml_file=tmp_path / "s.yaml")

    @pytest.mark.parametrize(
        ("line", "changed", "said"),
        [
            (
                "  port: 8000",
                "  port: 8000\n  request_timeout_s: 30",
                "does not pass on http_options.request_timeout_s",
            ),
            ("proxy_location: EveryNode", "proxy_location: HeadOnly", "does not pass on proxy_location: 'HeadOnly'"),
            ("    route_prefix: /", "    route_prefix: /tracker", "applications.route_prefix: '/tracker'"),
            ("    route_prefix: /", "    runtime_env: {}", "does not pass on applications.runtime_env"),
        ],
    )
    def test_what_the_command_would_drop_is_refused(self, tmp_path: Path, line: str, changed: str, said: str) -> None:
        text = (ROOT / "serve_config.yaml").read_text()
        assert line in text
        (tmp_path / "s.yaml").write_text(text.replace(line, changed, 1))
        with pytest.raises(ConfigError, match=re.escape(said)):
            ServerConfig.parse(yaml_file=tmp_path / "s.yaml")

    def test_a_key_that_ray_would_drop_is_refused(self) -> None:
        deployment = {"name": "Windowed", "autoscaling_config": {"min_replicas": 1, "policy": {"policy_function": "x"}}}
        check_keys([deployment, {"name": "Batches", "placement_group_bundles": [{"CPU": 1}]}], DeploymentSchema, "")
        for wrong, said in (
            ({"max_ongoing_request": 9}, "'max_ongoing_request' (Windowed); there are name, "),
            ({"autoscaling_config": {"min_replica": 1}}, "'min_replica' (Windowed)"),
            ({"ray_actor_options": {"num_gpu": 1}}, "'num_gpu' (Windowed)"),
        ):
            with pytest.raises(ConfigError, match=re.escape(said)):
                check_keys([{"name": "Windowed", **wrong}], list[DeploymentSchema], "")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
    def test_a_public_address_needs_keys(self, host: str) -> None:
        assert is_public(host)
        with pytest.raises(ConfigError, match=r"needs keys.*api_keys_file"):
            check_public_bind(host, ServerConfig(host=host))
        check_public_bind(host, ServerConfig(host=host, access=Access(api_keys_file="/keys")))
        assert not any(is_public(name) for name in ("127.0.0.1", "::1", "localhost", "127.8.0.1"))

    def test_a_server_is_begun_on_its_cluster(self) -> None:
        for address, environment in (("ray://head:10001", {}), ("auto", {"RAY_ADDRESS": "ray://head:10001"})):
            with pytest.raises(ConfigError, match=r"on a node of its cluster.*ray://head:10001.*serve deploy"):
                check_cluster(address, environment)
        for address, environment in (
            ("auto", {"RAY_ADDRESS": "10.0.0.1:6379"}),
            ("local", {"RAY_ADDRESS": "ray://h:1"}),
        ):
            check_cluster(address, environment)


class TestKeys:
    def test_only_a_whole_key_opens(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("first-key-0123456789\nsecond-key-0123456789\n")
        keys = Keys.read(str(tmp_path / "keys"))
        keys.check("Bearer second-key-0123456789")
        assert keys.check_websocket(None, ["x", "bearer.first-key-0123456789"]) == "bearer.first-key-0123456789"
        for wrong in (None, "", "Bearer", "Bearer first-key", "Basic first-key-0123456789", "first-key-0123456789"):
            with pytest.raises(Refusal, match="a valid key") as refusal:
                keys.check(wrong)
            assert refusal.value.status == 401 and "first" not in str(refusal.value)

    @pytest.mark.parametrize("text", ["", "short\n"])
    def test_a_file_without_good_keys_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "keys").write_text(text)
        with pytest.raises(ConfigError, match="at least 16 characters"):
            Keys.read(str(tmp_path / "keys"))
        Keys.read(None).check(None)


class TestHosts:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "[::1]:8000", "[::1]"])
    def test_names_of_this_machine(self, host: str) -> None:
        assert is_of_this_machine(host)

    @pytest.mark.parametrize(
        "host", ["", "evil.example:8000", "localhost.evil.example", "[fe80::1]", "10.0.0.1:80", "x]"]
    )
    def test_names_that_may_be_another_site_s(self, host: str) -> None:
        assert not is_of_this_machine(host)

    def test_without_keys_pages_of_other_sites_are_strangers(self) -> None:
        def refused(local_only: bool, **headers: str) -> int | None:
            scope = {"headers": [(name.encode(), text.encode()) for name, text in headers.items()]}
            refusal = _Outermost(cast(Any, None), cast(Any, SimpleNamespace(local_only=local_only)))._stranger(scope)
            return refusal.status if refusal else None

        assert refused(True, host="localhost:8000") is None
        assert refused(True, host="localhost:8000", origin="http://localhost:8000") is None
        assert refused(True, host="localhost:8000", origin="https://evil.example") == 403
        assert refused(True, host="localhost:8000", origin="null") == 403
        assert refused(True, host="evil.example", origin="http://evil.example") == 421
        assert refused(False, host="evil.example", origin="http://other.example") is None


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
        said = json.loads(formats.to_json(rows(), {"fps": 30.0}))
        assert said["fps"] == 30.0 and said["rows"][1]["x"] is None and "video" not in said["rows"][0]


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
        ],
    )
    def test_bodies_that_are_not_as_they_should_be(
        self, tmp_path: Path, body: bytes, boundary: str, status: int
    ) -> None:
        with pytest.raises(Refusal) as refusal:
            self.receive([body], f"multipart/form-data{boundary}", tmp_path)
        assert refusal.value.status == status

    @pytest.mark.parametrize(("limit", "chunks"), [({"stall_s": 0.01}, 1), ({"upload_s": 60.0}, 7)])
    def test_a_body_that_stalls_or_trickles_is_408(
        self, monkeypatch: pytest.MonkeyPatch, limit: dict[str, float], chunks: int
    ) -> None:
        monkeypatch.setattr(uploads, "time", clock := Clock())

        async def receive() -> dict[str, Any]:
            if "stall_s" in limit:
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
        seen = len(listener.paths)
        for path, status in {
            "/to-other-host": 403, "/to-file": 403, "/to-metadata": 403, "/for-ever": 403, "/large": 413,
            "/large-unannounced": 413,
        }.items():  # fmt: skip
            with pytest.raises(Refusal) as refusal:
                fetch(f"http://localhost:{listener.port}{path}", tmp_path / "clip", loopback, SMALL)
            assert refusal.value.status == status, path
        assert "/secret" not in listener.paths[seen:]
        with pytest.raises(StorageError, match=r"broke off|did not answer"):
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


class TestReadiness:
    def test_it_is_asked_without_the_environment_s_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            place = server.getsockname()

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
            monkeypatch.delenv("no_proxy", raising=False)
            ready = _is_ready(*place)
            if not ready:
                socket.create_connection(place).close()
            thread.join()
        assert ready

    def test_an_address_of_ipv6_stands_in_brackets(self) -> None:
        assert url_of("::1", 8000) == "http://[::1]:8000" and url_of("10.0.0.1", 80) == "http://10.0.0.1:80"


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


class TestPlaces:
    def test_only_below_the_roots(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "secret").mkdir()
        (tmp_path / "in" / "out").symlink_to(tmp_path / "secret")
        roots = (str(tmp_path / "in"), "s3://bucket/videos")
        assert allowed_place("a.mp4", roots, "sources") == (tmp_path / "in" / "a.mp4").as_uri()
        assert allowed_place("s3://bucket/videos/a", roots, "sources") == "s3://bucket/videos/a"
        for place in (
            "../secret", "/etc/passwd", "s3://bucket/videos2/a", "s3://other/a", "out/x.mp4", "@list.txt", "x" * 5000,
            f"{tmp_path}/in/../secret", "https://x/y", "s3://bucket/videos/../x", "file://host/etc", "a\0b",
        ):  # fmt: skip
            with pytest.raises(Refusal) as refusal:
                allowed_place(place, roots, "sources")
            assert refusal.value.status == 403, place
        with pytest.raises(Refusal, match="no sources set up"):
            allowed_place("a.mp4", (), "sources")


class TestRecords:
    def test_a_batch_is_found_again_until_it_is_done(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_records, "time", clock := Clock())
        records = BatchRecords([str(tmp_path / "a"), str(tmp_path / "b")])
        batch = records.create(["file:///v.mp4"], (tmp_path / "b" / "x").as_uri(), "tiny")
        again = BatchRecords([str(tmp_path / "a"), str(tmp_path / "b")])
        assert again.get(batch.id) == batch and list(again.forsaken()) == [], "who took it in waits for it"
        clock.now_s += batch_records.LOST_AFTER_S
        assert list(again.forsaken()) == [batch.id]
        again.wait_for(batch.id)
        assert list(records.forsaken()) == []
        again.save(batch.model_copy(update={"state": BatchState.DONE}))
        again.wait_for(batch.id)
        assert list((tmp_path / "b" / "_batches" / "open").iterdir()) == []
        assert records.get("../../x") is None and records.get("0" * 16) is None

    def test_one_of_many_begins_a_run_and_a_dead_one_keeps_nobody_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_records, "time", clock := Clock())
        batch = BatchRecords([str(tmp_path)]).create(["file:///v.mp4"], (tmp_path / "x").as_uri(), "tiny")
        with ThreadPoolExecutor(8) as pool:
            begun = list(pool.map(lambda _: BatchRecords([str(tmp_path)]).begin(batch), range(8)))
        (running,) = [each for each in begun if each is not None]
        assert (running.runs, running.state) == (1, BatchState.RUNNING)
        clock.now_s += batch_records.LOST_AFTER_S  # it died before its record said that it began
        second = BatchRecords([str(tmp_path)]).begin(batch)
        assert second is not None and second.runs == 2

    def test_a_batch_cancelled_before_its_first_clip_is_not_run(self, tmp_path: Path) -> None:
        config = ServeConfig(access=Access(outputs=(str(tmp_path),)))
        records = BatchRecords(config.access.outputs)
        batch = records.create(["file:///v.mp4"], (tmp_path / "x").as_uri(), "tiny")
        records.ask_to_stop(batch)
        BatchReplica(config, {"tiny": "no such file"})._run(batch.id, "replica")
        ended = records.get(batch.id)
        assert ended is not None and (ended.state, ended.error) == (BatchState.CANCELLED, None)
        assert list(records.forsaken()) == [] and not (tmp_path / "x").exists()


class TestDecoding:
    def test_bad_clips_and_pictures_are_refused_with_a_reason(self, tmp_path: Path, decoder: DecoderProcess) -> None:
        (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
        write_video(tmp_path / "long.mp4", [np.zeros((48, 64, 3), np.uint8)] * 101, fps=25, wh=(64, 48))
        write_video(tmp_path / "wide.mp4", [np.zeros((400, 400, 3), np.uint8)] * 2, fps=25, wh=(400, 400))
        for name, reason in {"list": "not_a_video", "long": "too_large", "wide": "too_large"}.items():
            with pytest.raises(MediaError) as fault:
                decoder.probe(stat(str(tmp_path / f"{name}.mp4")))
            assert fault.value.reason == reason
        for data, reason in {
            b"GIF89a": "damaged",
            png((400, 400)): "too_large",
            png((8, 8))[:45]: "damaged",
        }.items():
            with pytest.raises(MediaError) as fault:
                decoder.picture(data)
            assert fault.value.reason == reason
        assert decoder.picture(png((8, 6)))[0] == (8, 6)
        tracker = make_tracker(load_model("specknet"), device="cpu")
        live = LiveSession(tracker.open(), tracker, decoder, SMALL, model="specknet", fps=25)
        with pytest.raises(MediaError, match="another size than the first of its stream"):
            live.push([png((8, 6)), png((6, 8))], None)

    def test_a_picture_is_scaled_to_the_network(self, decoder: DecoderProcess) -> None:
        wh_px, pixels = decoder.picture(png((8, 6)), (4, 3))
        assert wh_px == (8, 6) and pixels.shape == (3, 4, 3) and (pixels == [200, 10, 10]).all()


class TestSessions:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        monkeypatch.setattr("specktrack.serving.sessions.time", clock := Clock())
        return clock

    def sessions(self, **limits: Any) -> Sessions:
        return Sessions("replica", decode_limits(SMALL), Limits(session_idle_s=60, **limits))

    def test_one_that_idles_is_closed_and_says_so(self, tracker: Tracker, clock: Clock) -> None:
        sessions = self.sessions(sessions=1)
        key = sessions.add(tracker.open(), tracker, model="specknet", fps=25)
        with pytest.raises(Refusal, match="follows 1 streams and sessions"):
            sessions.add(tracker.open(), tracker, model="specknet", fps=25)
        clock.now_s += 59
        assert sessions.idle() == [] and (len(sessions), sessions.resting) == (1, 1)
        clock.now_s += 2
        assert sessions.idle() == [key]
        other = sessions.add(tracker.open(), tracker, model="specknet", fps=25)  # it made room
        assert len(sessions) == 1
        sessions.remove(other)
        with pytest.raises(Refusal, match=r"no such session.*idle for too long") as refusal:
            sessions.get(key)
        assert refusal.value.status == 404

    def test_one_at_work_is_not_idle_however_long_it_takes(self, tracker: Tracker, clock: Clock) -> None:
        sessions = self.sessions()
        key = sessions.add(tracker.open(), tracker, model="specknet", fps=25)

        async def work(log: list[str]) -> None:
            async with sessions.using(key) as live:
                log.append("begun")
                clock.now_s += 61
                assert sessions.idle() == [] and sessions.resting == 0
                assert len(await asyncio.to_thread(live.push, [png((8, 6))], None)) >= 0  # its decoder lives
                log.append("done")

        async def two() -> list[str]:
            log: list[str] = []
            await asyncio.gather(work(log), work(log))
            assert sessions.idle() == [], "the end of a call counts, not its beginning"
            return log

        assert asyncio.run(two()) == ["begun", "done"] * 2
        clock.now_s += 61
        assert sessions.idle() == [key]

    def test_a_call_that_waited_for_one_that_ended_it_is_told(self, tracker: Tracker) -> None:
        sessions = self.sessions()
        key = sessions.add(tracker.open(), tracker, model="specknet", fps=25)

        async def end() -> None:
            async with sessions.using(key):
                await asyncio.sleep(0)  # the other comes
                sessions.remove(key)

        async def both() -> list[BaseException | None]:
            return await asyncio.gather(end(), end(), return_exceptions=True)

        first, second = asyncio.run(both())
        assert first is None and isinstance(second, Refusal) and second.status == 404

    def test_one_whose_caller_left_before_he_knew_its_id_is_dropped(self, tmp_path: Path) -> None:
        dropped, begun = [], asyncio.Event()

        class Held:
            """An ingress whose replica never answers about the first picture."""

            config, boxed = ServeConfig(), ("boxes",)

            def boxed_model(self, _: str | None) -> Any:
                return None

            async def open(self, *_: Any) -> str:
                return "t.home.key"

            async def push(self, *_: Any) -> pa.Table:
                begun.set()
                return await asyncio.Event().wait()

            async def drop(self, key: str) -> None:
                await asyncio.sleep(0)
                dropped.append(key)

        body = (
            b'--B\r\nContent-Disposition: form-data; name="box"\r\n\r\n{"cx_px":1,"cy_px":1,"w_px":1,"h_px":1}\r\n'
            b'--B\r\nContent-Disposition: form-data; name="frame"; filename="f"\r\n\r\npicture\r\n--B--\r\n'
        )

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def leave() -> None:
            scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=B")]}
            (post, *_) = _session_routes(cast(Any, Held())).routes
            asking = asyncio.create_task(cast(Any, post).endpoint(request=Request(scope, receive), folder=tmp_path))
            await asyncio.wait_for(begun.wait(), 60)
            asking.cancel()  # as Serve does when the caller is gone
            await asyncio.wait({asking})
            assert asking.cancelled()

        asyncio.run(leave())
        assert dropped == ["t.home.key"]


def scaling(requests: float, sessions: list[int], resting: list[int], replicas: int) -> float:
    """What the policy wants at a target of four."""
    reported = {"sessions": dict(enumerate(sessions)), "resting": dict(enumerate(resting))}
    context = AutoscalingContext(
        deployment_id=DeploymentID("Template"), deployment_name="Template", app_name="specktrack",
        current_num_replicas=replicas, target_num_replicas=replicas, running_replicas=[], total_num_requests=requests,
        total_queued_requests=0.0, aggregated_metrics=reported, raw_metrics=None, capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8, policy_state={}, last_scale_up_time=None, last_scale_down_time=None,
        current_time=None, config=AutoscalingConfig(min_replicas=1, max_replicas=8, target_ongoing_requests=4),
    )  # fmt: skip
    return keep_sessions(context)[0]


class TestArrivals:
    def test_they_are_bounded_in_bytes_and_in_pictures(self) -> None:
        arrivals = Arrivals(MOST_WAITING)
        large = bytes(MOST_WAITING_BYTES // 3)
        for _ in range(4):
            assert not arrivals.full()
            arrivals.put_nowait((0.0, large))
        assert arrivals.full() and arrivals.qsize() == 4
        arrivals.get_nowait()
        arrivals.get_nowait()
        assert not arrivals.full()
        for _ in range(MOST_WAITING - 2):
            arrivals.put_nowait((0.0, b""))
        assert arrivals.full() and arrivals.waiting_bytes == 2 * len(large)


class TestPulse:
    def test_a_thread_that_stands_still_or_is_gone_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passes, "time", clock := Clock())
        release = threading.Event()
        with ThreadPoolExecutor(1) as network:
            pulse = Pulse(network, most_s=10)
            network.submit(int).result()  # whose turn comes after the pulse's own
            clock.now_s += 100
            pulse.check()
            network.submit(int).result()
            network.submit(release.wait, 60)
            pulse.check()
            clock.now_s += 9
            pulse.check()
            clock.now_s += 2
            with pytest.raises(RuntimeError, match="has been at one thing for 11 s"):
                pulse.check()
            release.set()
        with pytest.raises(RuntimeError):
            pulse.check()


class TestPasses:
    @pytest.mark.parametrize(("most", "expected"), [(8, [4]), (3, [3, 1]), (1, [1, 1, 1, 1])])
    def test_windows_of_two_clips_share_a_pass_and_get_their_own_heatmaps(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, expected: list[int]
    ) -> None:
        network = load_model(tiny_model(tmp_path / "tiny.safetensors")).network
        detector = Detector(network, device=torch.device("cpu"))
        shape = (4, detector.config.frames_in, WH[1], WH[0], 3)
        pixels = torch.randint(0, 255, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        alone = [detector.heatmaps(frames[None])[0] for frames in pixels]
        counted: list[tuple[str, int]] = []
        monkeypatch.setattr("specktrack.serving.passes.windows_per_pass", lambda _: most)
        heatmaps = forward([Window(detector, "tiny", each) for each in pixels], lambda *seen: counted.append(seen))
        assert counted == [("tiny", count) for count in expected]
        assert all(torch.allclose(one, two, atol=1e-3) for one, two in zip(heatmaps, alone, strict=True))
        assert not torch.allclose(alone[0], alone[1], atol=1e-3)


class TestScaling:
    def test_sessions_are_work_and_no_replica_goes_as_long_as_one_lives(self) -> None:
        assert scaling(8, [], [], 1) == 2 and scaling(1, [0, 0], [0, 0], 2) == 0.25  # Serve's own rule
        assert scaling(2, [6, 4], [4, 4], 2) == 2.5
        assert scaling(0, [1, 0, 0], [1, 0, 0], 3) == 3
        assert scaling(1, [1, 0], [0, 0], 2) == 2


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return make_tracker(load_model("specknet"), device="cpu")


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess(decode_limits(SMALL)) as decoder:
        yield decoder


def png(wh: tuple[int, int]) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", wh, (200, 10, 10)).save(sink, "PNG")
    return sink.getvalue()


class TestProblems:
    def test_what_nobody_foresaw_tells_nothing_of_its_inside(self) -> None:
        problem = problem_of(RuntimeError("password=hunter2"))
        assert problem.status == 500 and "hunter2" not in problem.model_dump_json()

    def test_a_refusal_survives_pickling(self) -> None:
        refusal = pickle.loads(pickle.dumps(Refusal(410, "gone", 3, "here", "open another")))
        assert (refusal.status, str(refusal)) == (410, "gone: 3 (here); open another")

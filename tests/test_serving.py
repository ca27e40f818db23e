"""Who is let in, what a server needs before it starts, and what a refusal says."""

import pickle
import re
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.serve.schema import DeploymentSchema

from specktrack.cli.options import parse
from specktrack.errors import ConfigError
from specktrack.serving.access import Keys, is_of_this_machine
from specktrack.serving.boundary import Outermost
from specktrack.serving.config import (
    Access,
    ServeConfig,
    ServerConfig,
    check_cluster,
    check_public_bind,
    is_public,
)
from specktrack.serving.health import url_of
from specktrack.serving.problems import Refusal, problem_of
from specktrack.serving.server import _is_ready, check_keys

ROOT = Path(__file__).parents[1]


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
            config = ServeConfig(access=Access(origins=("https://example.org",)))
            gateway = cast(Any, SimpleNamespace(local_only=local_only, config=config))
            refusal = Outermost(cast(Any, None), gateway)._stranger(scope)
            return refusal.status if refusal else None

        assert refused(True, host="localhost:8000") is None
        assert refused(True, host="localhost:8000", origin="http://localhost:8000") is None
        assert refused(True, host="localhost:8000", origin="https://evil.example") == 403
        assert refused(True, host="localhost:8000", origin="null") == 403
        assert refused(True, host="localhost:8000", origin="https://example.org") is None
        assert refused(True, host="evil.example", origin="http://evil.example") == 421
        assert refused(False, host="evil.example", origin="http://other.example") is None


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


class TestProblems:
    def test_what_nobody_foresaw_tells_nothing_of_its_inside(self) -> None:
        problem = problem_of(RuntimeError("password=hunter2"))
        assert problem.status == 500 and "hunter2" not in problem.model_dump_json()

    def test_a_refusal_survives_pickling(self) -> None:
        refusal = pickle.loads(pickle.dumps(Refusal(410, "gone", 3, "here", "open another")))
        assert (refusal.status, str(refusal)) == (410, "gone: 3 (here); open another")

"""A Ray that is started here keeps its own affairs to itself, and its doors shut."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.annotating import make_video, tiny_model
from tests.ports import free_port

from specktrack import cluster

ROOT = Path(__file__).parents[2]

WORK = """
from specktrack.annotating.pool import work
from specktrack.cluster import connected

class Twice:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, row):
        return [{"number": row["number"] * self.factor}]

with connected("local"):
    print(sorted(row["number"] for row in work([{"number": 1}, {"number": 2}], Twice, 2, workers=1)))
"""


@pytest.mark.ray
def test_work_prints_nothing_but_its_own_lines() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")}, cwd=ROOT,
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("[2, 4]\n", "", 0)


LISTEN = """
import json
import psutil
from specktrack.cluster import connected

with connected("local"):
    own = psutil.Process()
    found = {}
    while not {f"ray::{name}" for name in ("DashboardAgent", "RuntimeEnvAgent")} <= found.keys():
        for process in (own, *own.children(recursive=True)):
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN:
                    found.setdefault(process.cmdline()[0].strip(), set()).add(each.laddr.ip)
    print(json.dumps(sorted(set().union(*found.values()))))
"""


@pytest.mark.ray
def test_a_ray_of_its_own_listens_on_loopback_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTEN],
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")}, cwd=ROOT,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert {each.removeprefix("::ffff:") for each in json.loads(done.stdout)} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("address", "named", "started", "own"),
    [
        ("local", "10.0.0.1:6379", None, True),
        ("auto", None, None, True),
        ("auto", "local", None, True),
        ("auto", "10.0.0.1:6379", None, False),
        ("auto", None, "10.0.0.1:6379", False),
        ("10.0.0.1:6379", None, None, False),
        ("ray://10.0.0.1:10001", None, None, False),
    ],
)
def test_a_ray_is_its_own_where_none_is_named_or_was_started(
    monkeypatch: pytest.MonkeyPatch, address: str, named: str | None, started: str | None, own: bool
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if named:
        monkeypatch.setenv("RAY_ADDRESS", named)
    monkeypatch.setattr(cluster.services, "find_bootstrap_address", lambda _: started)
    assert cluster._is_own(address) is own


@pytest.mark.ray
def test_nothing_is_imported_from_the_folder_that_a_run_is_started_in(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "a.mp4", 12)
    for name in (*sorted(sys.stdlib_module_names - set(sys.builtin_module_names)), "av", "numpy", "specktrack"):
        (tmp_path / "videos" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    model = tiny_model(tmp_path / "tiny.safetensors")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "specktrack.cli", "annotate", ".", "--output", str(tmp_path / "out"),
         "--model", model, "--address", "local"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")}, cwd=tmp_path / "videos",
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert done.returncode == 0, done.stderr[-3000:]


def answer(url: str, *, token: str | None = None, body: bytes | None = None) -> int:
    """The status; 0 if nobody answers."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as said:
            return int(said.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.ray
def test_a_node_that_deploy_starts_takes_jobs_only_with_the_token() -> None:
    head, dashboard = free_port(), free_port()
    url, token = f"http://127.0.0.1:{dashboard}/api/jobs/", "t" * 40
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # the path of a socket has at most 107 bytes
        node = subprocess.Popen(
            [ROOT / "deploy" / "start-node", "head", f"--port={head}", f"--dashboard-port={dashboard}", "--num-cpus=1",
             f"--temp-dir={folder}", "--block"],
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_AUTH_TOKEN": token,
                 "RAY_AUTH_MODE": "token"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 200
            while answer(url, token=token) != 200:
                assert node.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
            assert answer(url, body=b'{"entrypoint": "touch /tmp/open"}') == 401
            assert answer(url, token="wrong", body=b'{"entrypoint": "touch /tmp/open"}') in (401, 403)
            own_address = socket.gethostbyname(socket.gethostname())
            assert own_address.startswith("127.") or answer(url.replace("127.0.0.1", own_address), token=token) == 0
        finally:
            node.terminate()
            node.wait(60)  # Ray gives a node half a minute to drain

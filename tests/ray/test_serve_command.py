"""``specktrack serve`` as a person starts it: a process of its own, and the lines that the README prints."""

import asyncio
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.csv
import pytest
from PIL import Image
from tests.ports import free_port
from tests.ray.conftest import RAY_ENVIRONMENT

from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.video import write_video

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "specktrack.cli", "serve"]
ENVIRONMENT = {**os.environ, **RAY_ENVIRONMENT, "PYTHONPATH": str(ROOT / "platform")}
ENVIRONMENT.pop("RAY_ADDRESS", None)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the server is started: with the files that are beside the README after ``make demo``."""
    folder = Path(tempfile.mkdtemp(prefix="serve-", dir="/tmp"))  # short: Ray puts Unix sockets below it
    shutil.copy(ROOT / "serve_config.yaml", folder)
    clips = SynthConfig(videos=2, frames=40, width_px=320, height_px=180, cuts_per_minute=0)
    write_archive(clips, str(folder / "demo-output" / "archive"))
    for name in ("picture.png", "next.png", "third.png"):
        Image.effect_noise((640, 360), 40).convert("RGB").save(folder / name)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and where it answers."""
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "--config", "serve_config.yaml", "--port", str(port), "--address", "local", "--json"],
        cwd=folder, env={**ENVIRONMENT, "RAY_TMPDIR": str(folder)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process, f"localhost:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=60)


def printed_lines(page: str) -> list[str]:
    """The curl commands of a page."""
    return re.findall(r"^curl .*$", (ROOT / page).read_text(), re.MULTILINE)


def live_example() -> str:
    """The Python code that follows a live stream."""
    (found,) = re.findall(r"```python\n([^`]*client\.stream[^`]*)```", (ROOT / "docs/serving.md").read_text())
    return found


def wait_until_ready(process: subprocess.Popen[str], place: str) -> None:
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"http://{place}/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    process.kill()
    pytest.fail(f"the server is not ready: {process.communicate()}")


def check_end(process: subprocess.Popen[str]) -> None:
    """A server that was stopped says how long it ran, and nothing else."""
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["seconds"] > 0
    assert "Traceback" not in err and "***" not in err, err


def shell(line: str, place: str, folder: Path) -> str:
    """What a printed line answers."""
    line = line.replace("localhost:8000", place).replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def wait_for(place: str, batch: str) -> None:
    """Until a batch has been done."""
    deadline = time.monotonic() + 90
    while (said := httpx.get(f"http://{place}/v1/batches/{batch}", timeout=10).json())["state"] != "done":
        assert said["state"] in ("queued", "running") and time.monotonic() < deadline, said
        time.sleep(0.5)


@pytest.mark.slow
def test_it_is_ready_after_its_start_and_the_printed_lines_work(
    server: tuple[subprocess.Popen[str], str], folder: Path
) -> None:
    process, place = server
    wait_until_ready(process, place)
    lines = [*printed_lines("README.md"), *printed_lines("docs/serving.md")]
    assert len(lines) >= 8
    known, rows = "", []
    for line in lines:
        said = shell(line.replace("/ID", f"/{known}"), place, folder)
        if "text/csv" in line:
            assert pyarrow.csv.read_csv(io.BytesIO(said.encode())).num_rows == 40
            continue
        answer: dict[str, Any] = json.loads(said)
        if "/v1/annotate" in line:
            assert answer["model"] == "specknet" and len(answer["rows"]) == answer["frames"] == 40, line
            continue
        known = answer.get("id", known)  # which the next lines name
        if "/v1/batches" in line:
            assert answer["state"] in ("queued", "running", "done"), answer
            wait_for(place, known)
        else:
            rows.append([row["frame"] for row in answer["rows"]])
    assert rows == [[0], [1, 2], []], "a session's"

    names: dict[str, Any] = {}
    exec(live_example().replace("localhost:8000", place), names)
    found: list[Any] = []
    asyncio.run(names["live"]([path.read_bytes() for path in folder.glob("*.png")], found))
    assert [row.frame for row in found] == [0, 1, 2]

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    check_end(process)


@pytest.mark.slow
def test_what_it_took_in_is_answered_when_a_container_is_stopped(
    server: tuple[subprocess.Popen[str], str], folder: Path
) -> None:
    process, place = server
    write_video(folder / "long.mp4", [np.zeros((96, 128, 3), np.uint8)] * 300, fps=30, wh=(128, 96))
    wait_until_ready(process, place)
    assert annotate(place, folder / "demo-output" / "archive" / "videos" / "0000.mp4").status_code == 200
    rebound = {"Host": "rebound.example", "Origin": "http://rebound.example"}  # there are no keys
    refused = httpx.get(f"http://{place}/v1/models", headers=rebound, timeout=10)
    assert refused.status_code == 421 and "not a name of this machine" in refused.json()["detail"]
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert httpx.get(f"http://{place}/v1/stream", headers={**rebound, **upgrade, **key}, timeout=10).status_code == 403
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(annotate, place, folder / "long.mp4")
        time.sleep(3)
        assert not under_way.done()
        process.send_signal(signal.SIGTERM)  # to the first process alone
        answer = under_way.result(120)
    assert answer.status_code == 200 and len(answer.json()["rows"]) == 300, answer.text
    check_end(process)


def annotate(place: str, clip: Path) -> httpx.Response:
    with clip.open("rb") as file:
        return httpx.post(f"http://{place}/v1/annotate", files={"clip": file}, timeout=120)


def test_a_port_that_another_server_has_ends_the_command() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Ray's proxies, which would share it
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--port", str(port), "--address", "local"], env=ENVIRONMENT, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"127.0.0.1:{port}" in done.stderr and "choose another --port" in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_public_address_without_keys_ends_the_command(host: str) -> None:
    done = subprocess.run(
        [*COMMAND, "--host", host, "--address", "local"], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "a server that others can reach needs keys" in done.stderr and "access.api_keys_file" in done.stderr

"""Submitting: a verb runs as a job on a real Ray with a dashboard, and its exit code comes back."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from tests.ports import free_port

from specktrack.cli.options import options_of, parse
from specktrack.cli.submit import SubmitConfig, submit
from specktrack.cli.table import VERBS
from specktrack.errors import ConfigError
from specktrack.lazy import load
from specktrack.storage.places import names_of

ROOT = Path(__file__).parents[1]


def processes_of(folder: str) -> list[int]:
    """Ids of the processes whose command line names the folder: Ray's daemons leave their parent's process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if folder.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Address of the dashboard of a Ray head of its own, which asks for a token."""
    with tempfile.TemporaryDirectory(prefix="st", dir="/tmp", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.write_text("a-token-for-this-test-0123456789abcdef")
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        port = free_port()
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--node-ip-address", "127.0.0.3",
            "--port", str(free_port()), "--num-cpus", "1", "--object-store-memory", "100000000",
            "--temp-dir", folder, "--dashboard-host", "127.0.0.1", "--dashboard-port", str(port),
            "--dashboard-agent-listen-port", str(free_port()), "--ray-client-server-port", str(free_port()),
            "--disable-usage-stats",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        address = f"http://127.0.0.1:{port}"
        try:
            yield f"{address} {token}"
        finally:
            for pid in processes_of(folder):
                os.kill(pid, signal.SIGKILL)
            process.wait(60)


def run(dashboard: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    address, token = dashboard.split()
    command = [sys.executable, "-m", "specktrack.cli", "submit", "--json", "--address", address, *arguments]
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token}
    environment["PYTHONPATH"] = str(ROOT / "platform")
    end_s = time.monotonic() + 150
    while True:  # its head is just starting, and a command that finds none ends at once
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if "no Ray cluster answers" not in done.stderr or time.monotonic() > end_s:
            return done
        time.sleep(1)


@pytest.mark.ray
def test_a_job_ends_as_its_verb_ended(dashboard: str, tmp_path: Path) -> None:
    done = run(dashboard, "data", "synth", str(tmp_path / "a b"), "videos=1", "frames=2", "width_px=64", "height_px=48")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["status"], report["exit_code"], report["result"]["rows"]) == ("SUCCEEDED", 0, 2)
    assert (tmp_path / "a b" / "dataset.json").exists()

    done = run(dashboard, "data", "stats", str(tmp_path / "nothing"))
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["status"] == "FAILED"
    assert "error: " in done.stderr
    assert "INFO sdk" not in done.stderr

    address, token = dashboard.split()
    Path(f"{token}-wrong").write_text("another-token-0123456789abcdef")
    done = run(f"{address} {token}-wrong", "models", "list")
    assert done.returncode == 2
    assert "error: the cluster refused the connection" in done.stderr
    assert "set RAY_AUTH_TOKEN_PATH to the file with the cluster's token" in done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("data", "synth"), "'destination' is required"),
        (("nothing",), "no such verb: 'nothing'"),
        (("submit", "data", "stats", "x"), "a job cannot submit a job"),
    ],
)
def test_a_mistake_is_found_before_anything_is_sent(command: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        submit(SubmitConfig(command=command, address="http://127.0.0.1:1"))


@pytest.mark.parametrize("recipe", ["fast", "inpaintnet", "mkdnet", "global-search"])
def test_training_of_every_family_is_sent_whole(monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    needed = {
        "mkdnet": ["init=/m.safetensors", "distill.teacher=/m.safetensors"],
        "inpaintnet": ["validation=[/v]", "rows=/r"],
    }.get(recipe, [])
    given = ["--recipe", recipe, "--data", "/d", "--output", "/o", "steps=7", *needed]
    there, _ = parse("train", sent_words(monkeypatch, "train", *given))
    here, _ = parse("train", given)
    assert there == here and there.model_dump()["steps"] == 7


def test_no_cluster_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "unset")
    with pytest.raises(ConfigError, match=r"no Ray cluster answers: 'http://127.0.0.1:1' .*; give --address"):
        submit(SubmitConfig(command=("data", "stats", "x"), address="http://127.0.0.1:1"))


def sent_words(monkeypatch: pytest.MonkeyPatch, *command: str) -> list[str]:
    """The settings in the command line of the job."""
    from specktrack.cli.submit import _entrypoint

    return shlex.split(_entrypoint(command).partition("exec ")[2])[5:]


def test_relative_paths_mean_what_they_mean_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's own folder is removed with the job, and an output in it too."""
    monkeypatch.chdir(tmp_path)
    words = sent_words(monkeypatch, "annotate", "a b/*.mp4", "@list.txt", "s3://b/x", "/abs.mp4", "--output", "rows")
    sources = [f"{tmp_path}/a b/*.mp4", f"@{tmp_path}/list.txt", "s3://b/x", "/abs.mp4"]
    assert sorted(words) == [f"output={tmp_path}/rows", f"sources={json.dumps(sources)}"]
    words = sent_words(monkeypatch, "train", "--data", "d", "--output", "o", "distill.teacher=t.safetensors")
    assert f'distill={{"teacher": "{tmp_path}/t.safetensors"}}' in words
    words = sent_words(monkeypatch, "annotate", "/v.mp4", "--output", "/o", "--prompt", "3,10.5,20,4,4")
    assert 'prompt=["3,10.5,20,4,4"]' in words
    words = sent_words(monkeypatch, "annotate", "/v.mp4", "--output", "/o", "--prompt", "boxes.csv")
    assert f'prompt=["{tmp_path}/boxes.csv"]' in words
    words = sent_words(monkeypatch, "evaluate", "--data", "d", "--model", "specknet")
    assert sorted(words) == [f"data={tmp_path}/d", "model=specknet"]
    assert sent_words(monkeypatch, "evaluate", "--data", "/d", "--model", "m.safetensors")[1:] == [
        f"model={tmp_path}/m.safetensors"
    ]


def test_every_setting_says_by_its_type_whether_it_names_a_place() -> None:
    """A new setting with a path in it that stayed relative would be read in the wrong folder."""
    no_place = {
        "access.cameras", "access.hosts", "access.networks", "access.origins", "access.webhooks", "address",
        "by", "command", "court", "description", "distill.stages", "format", "host", "kind", "label",
        "learning_rates", "licence", "mlflow", "name", "network", "of", "paper", "protocol", "recipe",
        "register_as", "split", "sport", "submission_id", "to",
    }  # fmt: skip
    for name, verb in VERBS.items():
        for key, field in options_of(load(verb.config)):
            if str in words_in(field.annotation) and names_of(field) is None:
                assert key in no_place, f"{name} {key}: give it a type of storage.places, or list it here"


def words_in(annotation: Any) -> set[Any]:
    """The types that a setting's values are made of; not those of a mapping, which is another program's."""
    inner = [] if get_origin(annotation) in (dict, Literal) else get_args(annotation)
    return {annotation}.union(*(words_in(each) for each in inner if isinstance(each, Hashable)))


def test_the_settings_of_this_machine_travel_with_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class Client:
        def submit_job(self, **job: Any) -> str:
            sent.update(job)
            return "name"

        def get_job_status(self, _: str) -> Any:
            return type("Status", (), {"value": "PENDING"})

    monkeypatch.setattr("specktrack.cli.submit._client", lambda _: Client())
    monkeypatch.setenv("SPECKTRACK_DATA_SYNTH_SEED", "7")
    (tmp_path / "s.yaml").write_text("videos: 2\nsport: tennis\n")
    command = ("data", "synth", "/it's here", "--config", str(tmp_path / "s.yaml"), "--frames", "5")
    assert submit(SubmitConfig(command=command, follow=False)).status == "PENDING"
    words = shlex.split(sent["entrypoint"].partition("exec ")[2])
    assert words[1:6] == ["-m", "specktrack.cli", "data", "synth", "--json"]
    assert sorted(words[6:]) == ["destination=/it's here", "frames=5", "seed=7", "sport=tennis", "videos=2"]
    assert sent["runtime_env"]["working_dir"] == str(ROOT / "platform")

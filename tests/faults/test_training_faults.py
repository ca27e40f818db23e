"""Whatever is killed, cut or stopped while a network is trained: the losses are those of an undisturbed run.

The names T-1 ... T-8 are those of docs/reliability.md. T-2, T-6 and T-8 need no cluster and run in ``make test``.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import ray
import torch
from ray.train import Checkpoint
from tests.faults.checkpoint_writers import fresh_state
from tests.faults.test_annotate_faults import kill_one
from tests.ray.conftest import RAY_ENVIRONMENT

from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models.checkpoint import load_tensors
from specktrack.training import TrainConfig, decoded, train
from specktrack.training.checkpoints import restore_newest
from specktrack.video.process import DecoderProcess

pytestmark = [pytest.mark.faults, pytest.mark.ray, pytest.mark.timeout(600)]

RANK = "RayTrainWorker"
NETWORK = {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16], "input_wh": [320, 192]}
STEPS, KILLS = 100, 20


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all runs; its workers are processes of this one's raylet."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        for name, text in RAY_ENVIRONMENT.items():
            patch.setenv(name, text)
        patch.setenv("PYTHONPATH", os.pathsep.join(["platform", "."]))
        ray.init(
            num_cpus=4, object_store_memory=200 * 2**20, include_dashboard=False, _temp_dir=str(folder),
            log_to_driver=False, logging_level="error",
        )  # fmt: skip
        yield
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """42 windows: an epoch is ten steps and a half."""
    folder = tmp_path_factory.mktemp("archive")
    write_archive(SynthConfig(videos=2, frames=24, width_px=320, height_px=192), str(folder))
    return folder


def config(archive, output, **options):
    settings = {
        "data": [str(archive)], "output": str(output), "cache": str(archive / "cache"), "network": NETWORK,
        "sampling.crop_wh": "[64, 48]", "steps": STEPS, "batch_size": 4, "shards": 2, "precision": "fp32",
        "log_every": 1, "checkpoint_every": 4, "max_failures": KILLS + 5, **options,
    }  # fmt: skip
    return TrainConfig.parse(settings, environment={})


@pytest.fixture(scope="module")
def calm(cluster, archive, tmp_path_factory):
    """An undisturbed run on one worker."""
    run = config(archive, tmp_path_factory.mktemp("calm"))
    train(run)
    return run


def noted(output):
    """Steps and losses in the order in which they were written; a line that is being written is left out."""
    path = Path(output) / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    return [(line["step"], line["loss"]) for line in map(json.loads, text.splitlines()[: text.count("\n")])]


def assert_same_run(torn, calm):
    ours, theirs = dict(noted(torn.output)), dict(noted(calm.output))
    assert sorted(ours) == list(theirs) == list(range(1, STEPS + 1))
    apart = max(abs(ours[step] - loss) / loss for step, loss in theirs.items())
    print(f"losses differ by at most {apart:.1e}")
    assert apart <= 1e-6
    ours, theirs = (load_tensors(Path(run.output) / "model.safetensors")[0] for run in (torn, calm))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6, msg=name)


def wait_for_step(output, step, *, lines):
    """Until a line beyond the first ``lines`` says that ``step`` is done; the number of lines then."""
    while True:
        found = noted(output)
        if len(found) > lines and found[-1][0] >= step:
            return len(found)
        time.sleep(0.005)


def test_t1_a_random_rank_killed_at_random_steps(cluster, archive, calm, tmp_path):
    torn, draw = config(archive, tmp_path / "run", workers=2), random.Random(1)
    killed, pauses = [], []

    def killer():
        lines = 0
        for step in sorted(draw.sample(range(2, STEPS - 5), KILLS)):
            lines = wait_for_step(torn.output, step, lines=lines)
            kill_one(RANK, os.getpid(), draw, killed)
            began = time.monotonic()
            lines = wait_for_step(torn.output, 0, lines=len(noted(torn.output)))
            pauses.append(time.monotonic() - began)

    thread = threading.Thread(target=killer, daemon=True)
    thread.start()
    train(torn)
    thread.join(10)
    repeated = len(noted(torn.output)) - STEPS
    print(f"{len(killed)} killed, {repeated} steps repeated; {max(pauses):.0f} s from a kill to the next step at most")
    assert len(killed) == KILLS and max(pauses) < 60
    assert_same_run(torn, calm)


def test_t3_two_workers_then_one_then_two_in_the_middle_of_epochs(cluster, archive, calm, tmp_path):
    torn = config(archive, tmp_path / "run", workers=2)
    code = "import sys; from specktrack.training import *; train(TrainConfig.parse({}, yaml_file=sys.argv[1]))"
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    for workers, step in ((2, 25), (1, 60)):
        file = tmp_path / "config.yaml"
        file.write_text(torn.model_copy(update={"workers": workers}).model_dump_json())
        driver = subprocess.Popen([sys.executable, "-c", code, str(file)], env=environment)
        wait_for_step(torn.output, step, lines=len(noted(torn.output)))
        driver.kill()
        driver.wait(10)
    assert not (Path(torn.output) / "model.safetensors").exists()
    train(torn)
    assert_same_run(torn, calm)


def test_t7_the_rank_that_decodes_is_killed_while_the_other_waits_for_it(cluster, archive, calm, tmp_path):
    cache, killed = tmp_path / "cache", []
    torn = config(archive, tmp_path / "run", workers=2, cache=str(cache))

    def killer():
        while not list(cache.glob("*.partial")):
            time.sleep(0.002)
        kill_one(RANK, os.getpid(), random.Random(0), killed)

    thread, began = threading.Thread(target=killer, daemon=True), time.monotonic()
    thread.start()
    train(torn)
    print(f"whole run in {time.monotonic() - began:.0f} s")
    assert killed and time.monotonic() - began < 180
    assert_same_run(torn, calm)


class Hanging(DecoderProcess):
    """Its process stands still whenever it is to read."""

    def read_clip(self, clip, **more):
        os.kill(self.pid, signal.SIGSTOP)
        return super().read_clip(clip, **more)


def test_t7_a_decoder_that_hangs_is_stopped_and_its_video_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "STALLED_S", 1.0)
    monkeypatch.setattr(decoded, "DecoderProcess", Hanging)
    write_archive(SynthConfig(videos=1, frames=24, width_px=320, height_px=192), str(tmp_path / "archive"))
    began = time.monotonic()
    with pytest.raises(ConfigError, match="too many labelled frames cannot be used: '24 of 24: 24 without a picture"):
        train(config(tmp_path / "archive", tmp_path / "run", workers=0))
    assert time.monotonic() - began < 60


def test_t4_every_cut_or_flipped_checkpoint_is_refused_whole(tmp_path):
    draw, state = random.Random(4), fresh_state(NETWORK)
    state.step = 7
    state.save(tmp_path)
    file = tmp_path / "state.safetensors"
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    other = fresh_state(NETWORK)
    before = {name: tensor.clone() for name, tensor in other.network.state_dict().items()}
    for number in range(400):
        damaged = bytearray(whole)
        if number % 4 == 0:
            del damaged[draw.randrange(len(whole)) :]
        else:  # every other one in the header, which is small
            damaged[draw.randrange(header if number % 2 else len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            other.restore(tmp_path)
    assert other.step == 0 and all(torch.equal(before[k], t) for k, t in other.network.state_dict().items())
    file.write_bytes(whole)
    other.restore(tmp_path)
    assert other.step == 7


def test_t5_fifty_times_killed_while_a_checkpoint_is_written(tmp_path):
    half, state = 0, fresh_state("specknet")
    command = [sys.executable, "-m", "tests.faults.checkpoint_writers", str(tmp_path), "50"]
    subprocess.run(
        command, check=True, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(["platform", "."])}
    )
    for number in range(50):
        found = sorted((tmp_path / str(number)).glob("checkpoint_*"))
        restore_newest(state, [Checkpoint.from_directory(str(path)) for path in found])
        assert state.step >= int((tmp_path / f"{number}.last").read_text())
        half += state.step < int(found[-1].name.rpartition("_")[2])
    print(f"50 killed, {half} of them with a checkpoint half there")

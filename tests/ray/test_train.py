import json
import os
import signal
import threading
import time
from pathlib import Path

import boto3
import pytest
import torch

from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import load_model, load_tensors
from specktrack.training import TrainConfig, train

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    write_archive(SynthConfig(videos=2, frames=24, width_px=320, height_px=192), str(folder))
    return folder


def config(archive, tmp_path, **options):
    settings = {
        "data": [str(archive)],
        "output": str(tmp_path / "run"),
        "cache": str(archive / "cache"),
        "network": {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16], "input_wh": [320, 192]},
        "sampling.crop_wh": "[64, 48]",
        "steps": 6,
        "batch_size": 4,
        "log_every": 1,
        "checkpoint_every": 2,
        **options,
    }
    return TrainConfig.parse(settings, environment={})


def lines(output):
    return [json.loads(line) for line in (Path(output) / "metrics.jsonl").read_text().splitlines()]


def test_two_workers_train_and_leave_a_model_metrics_and_tensorboard(archive, tmp_path):
    run = config(archive, tmp_path, workers=2, hold_out_every=2, validate_every=3)
    report = train(run)
    assert report.exit_code == 0 and set(report.validation) >= {"f1", "precision", "recall", "accuracy"}
    model = load_model(run.output)
    assert model.config == run.network and model.card.recipe["steps"] == 6 and "f1" in model.card.metrics
    training = [line for line in lines(run.output) if line["kind"] == "train"]
    assert [line["step"] for line in training] == [1, 2, 3, 4, 5, 6]
    assert set(training[0]) >= {"loss", "peak", "recall", "error_px", "false", "learning_rate"}
    assert [line["step"] for line in lines(run.output) if line["kind"] == "validation"] == [3, 6]
    assert list((Path(run.output) / "tensorboard").glob("events.*"))
    with pytest.raises(ConfigError, match=r"the output holds a run of another configuration.*learning_rate"):
        train(config(archive, tmp_path, workers=2, learning_rate=0.5))


def parent(process):
    return Path("/proc") / (process / "stat").read_text().rpartition(")")[2].split()[1]


def kill_training_worker_after_checkpoint(output, killed):
    """SIGKILL the process of the training worker as soon as a checkpoint is there: one of our own Ray's, no other's."""
    while not list(Path(output).glob("run/checkpoint_*/state.safetensors")):
        time.sleep(0.01)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"RayTrainWorker" in (process / "cmdline").read_bytes():
                raylet = parent(process)
                if parent(raylet).name == str(os.getpid()):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed.set()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_a_killed_worker_resumes_to_the_weights_of_an_undisturbed_run(archive, tmp_path):
    calm = config(archive, tmp_path, output=str(tmp_path / "calm"), steps=40)
    train(calm)
    torn, killed = config(archive, tmp_path, output=str(tmp_path / "torn"), steps=40), threading.Event()
    killer = threading.Thread(target=kill_training_worker_after_checkpoint, args=(torn.output, killed))
    killer.start()
    train(torn)
    killer.join()
    assert killed.is_set()
    numbers = [line["step"] for line in lines(torn.output)]
    assert numbers != sorted(set(numbers)) or len(numbers) < 40, "the run was not disturbed"
    ours, theirs = (load_tensors(Path(run.output) / "model.safetensors")[0] for run in (torn, calm))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_training_to_s3_leaves_the_model_there(archive, tmp_path, s3):
    train(config(archive, tmp_path, output=f"s3://{s3}/run", steps=2))
    names = {item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=s3)["Contents"]}
    assert {"run/model.safetensors", "run/metrics.jsonl", "run/config.json"} <= names


def test_data_that_is_no_dataset_is_refused_before_anything_starts(archive, tmp_path):
    with pytest.raises(ConfigError, match=r"no dataset.json and no label files"):
        train(config(archive, tmp_path, data=[str(tmp_path)]))
    assert not (tmp_path / "run").exists()

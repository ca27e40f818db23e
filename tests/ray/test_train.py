import json
import os
import re
import shlex
import signal
import threading
import time
from pathlib import Path

import boto3
import pytest
import torch
from ray.train import WorkerGroupError

from specktrack.cli.main import main
from specktrack.datasets import load_dataset, save_dataset
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError, StorageError
from specktrack.models.checkpoint import ModelCard, load_model, load_tensors, save_model
from specktrack.models.zoo import build, network_config
from specktrack.preparing import PrepareConfig, prepare
from specktrack.storage import open_store
from specktrack.training import TrainConfig, train
from specktrack.training import run as run_training

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


def test_two_workers_train_and_leave_a_model_metrics_and_tensorboard(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(archive.parent)  # workers run in folders of their own
    first = network_config({"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16], "input_wh": [320, 192]})
    save_model("first.safetensors", build(first), ModelCard(name="first", network=first))
    run = config(
        Path(archive.name), tmp_path, init="first.safetensors", output=os.path.relpath(tmp_path / "run"),
        workers=2, hold_out_every=2, validate_every=3, keep="f1",
    )  # fmt: skip
    report = train(run)
    assert report.exit_code == 0 and set(report.validation) >= {"f1", "precision", "recall", "accuracy"}
    model = load_model(run.output)
    assert model.config == run.network and model.card.recipe["steps"] == 6 and "f1" in model.card.metrics
    training = [line for line in lines(run.output) if line["kind"] == "train"]
    assert [line["step"] for line in training] == [1, 2, 3, 4, 5, 6]
    assert set(training[0]) >= {"loss", "peak", "recall", "error_px", "false", "learning_rate"}
    assert [line["step"] for line in lines(run.output) if line["kind"] == "validation"] == [3, 6]
    assert list((Path(run.output) / "tensorboard").glob("events.*"))
    with pytest.raises(ConfigError, match=r"the output has a run with a different configuration.*learning_rate"):
        train(config(archive, tmp_path, workers=2, learning_rate=0.5))
    (Path(run.output) / "config.json").write_text('{"learning_ra')
    with pytest.raises(StorageError, match=r"not the settings.*config\.json\); restore it"):
        train(run)


def parent(process):
    return Path("/proc") / (process / "stat").read_text().rpartition(")")[2].split()[1]


def wait_for_checkpoint(output):
    while not list(Path(output).glob("run/checkpoint_*/state.safetensors")):
        time.sleep(0.01)


def kill_training_worker_after_checkpoint(output, killed):
    """SIGKILL one training worker as soon as a checkpoint is there: one of our own Ray's, no other's."""
    wait_for_checkpoint(output)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"RayTrainWorker" in (process / "cmdline").read_bytes():
                raylet = parent(process)
                if parent(raylet).name == str(os.getpid()):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed.set()
                    return
        except (FileNotFoundError, ProcessLookupError):
            continue


EXACT = {"steps": 24, "checkpoint_every": 4, "shards": 2, "precision": "fp32", "augment.mix": "samples"}


@pytest.fixture(scope="module")
def calm(archive, tmp_path_factory):
    """An undisturbed run on one worker."""
    run = config(archive, tmp_path_factory.mktemp("calm"), **EXACT)
    train(run)
    return run


def assert_same_run(torn, calm):
    """The last value noted for every step, and the weights, are equal within 1e-6."""
    ours, theirs = ({line["step"]: line["loss"] for line in lines(run.output)} for run in (torn, calm))
    assert list(theirs) == list(range(1, 25)) and set(ours) == set(theirs)
    for step, loss in theirs.items():
        assert ours[step] == pytest.approx(loss, rel=1e-6), step
    ours, theirs = (load_tensors(Path(run.output) / "model.safetensors")[0] for run in (torn, calm))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_a_killed_worker_of_two_resumes_to_the_losses_of_an_undisturbed_run_of_one(archive, tmp_path, calm):
    torn, killed = config(archive, tmp_path, workers=2, **EXACT), threading.Event()
    killer = threading.Thread(target=kill_training_worker_after_checkpoint, args=(torn.output, killed))
    killer.start()
    train(torn)
    killer.join()
    assert killed.is_set()
    assert len(list(Path(torn.output).glob("tensorboard/events.*"))) > 1, "the run was not disturbed"
    assert_same_run(torn, calm)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(archive, tmp_path):
    run = config(archive, tmp_path, precision="fp32")
    train(run)
    wanted = load_tensors(Path(run.output) / "model.safetensors")[0]
    newest = max(Path(run.output).glob("run/checkpoint_*/state.safetensors"))
    damaged = bytearray(newest.read_bytes())
    damaged[-40] ^= 1
    newest.write_bytes(damaged)
    (Path(run.output) / "model.safetensors").unlink()
    train(run)
    assert [line["step"] for line in lines(run.output)] == [1, 2, 3, 4, 5, 6, 5, 6]
    for name, tensor in load_tensors(Path(run.output) / "model.safetensors")[0].items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
def test_training_to_s3_leaves_the_model_there(archive, tmp_path, s3):
    run = config(archive, tmp_path, output=f"s3://{s3}/run", steps=2)
    train(run)
    train(run)  # which finds itself finished
    journal = boto3.client("s3").get_object(Bucket=s3, Key="run/metrics.jsonl")["Body"].read()
    assert [json.loads(line)["step"] for line in journal.splitlines()] == [1, 2]
    names = {item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=s3)["Contents"]}
    assert {"run/model.safetensors", "run/metrics.jsonl", "run/config.json"} <= names


def test_data_that_is_no_dataset_is_refused_before_anything_starts(archive, tmp_path):
    with pytest.raises(ConfigError, match=r"no dataset.json and no label files"):
        train(config(archive, tmp_path, data=[str(tmp_path)]))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_workers_learn_from_a_teacher_and_keep_their_adapters(archive, tmp_path):
    teacher = network_config({"name": "specknet", "frames_in": 3, "widths": [8, 16, 16, 16], "input_wh": [320, 192]})
    save_model(tmp_path / "teacher.safetensors", build(teacher), ModelCard(name="teacher", network=teacher))
    terms = {"feature": 0.5, "position": 0.1, "stages": [["enc4", "enc4"]]}
    run = config(
        archive, tmp_path, workers=2, steps=2, distill={"teacher": str(tmp_path / "teacher.safetensors"), **terms}
    )
    train(run)
    assert {"trusted", "taught_heatmap", "taught_position", "taught_feature"} <= set(lines(run.output)[0])
    [state] = Path(run.output).glob("run/checkpoint_*/state.safetensors")
    assert load_tensors(state)[0]["extra/adapters.0.weight"].shape == (16, 8, 1, 1)
    model = load_model(run.output)
    assert model.config == run.network and model.card.recipe["distill"]["teacher"].endswith("teacher.safetensors")


@pytest.fixture
def packs(archive, s3):
    place = f"s3://{s3}/packs"
    given = {"data": str(archive), "destination": place, "input_wh": [320, 192], "clip_s": 0.3, "workers": 2}
    report = prepare(PrepareConfig.parse(given, environment={}))
    assert report.clips >= 4 and report.frames == 48 and report.exit_code == 0
    return place


def streamed(packs, archive, tmp_path, **options):
    cache = {"cache": str(tmp_path / "cache"), "cache_gb": 0.001, "stream": "always"}
    return config(archive, tmp_path, **{**EXACT, "data": [packs], **cache, **options})


def kill_after_one_more_checkpoint(run, killed):
    seen = len(list(Path(run.output).glob("run/checkpoint_*")))
    while len(list(Path(run.output).glob("run/checkpoint_*"))) <= seen and not killed.is_set():
        time.sleep(0.01)
    kill_training_worker_after_checkpoint(run.output, killed)


def test_a_streamed_run_whose_worker_dies_has_the_weights_of_an_undisturbed_one_in_memory(
    packs, archive, tmp_path, calm
):
    run, killed = streamed(packs, archive, tmp_path), threading.Event()
    killer = threading.Thread(target=kill_training_worker_after_checkpoint, args=(run.output, killed))
    killer.start()
    train(run)
    killer.join()
    assert_same_run(run, calm)
    ours, theirs = (load_tensors(Path(of.output) / "model.safetensors")[0] for of in (run, calm))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    noted = lines(run.output)
    assert all(0 <= line["waited"] <= 1 for line in noted)
    assert not list((tmp_path / "cache").glob("*.npy"))  # nothing was decoded whole
    assert sum(file.stat().st_size for file in (tmp_path / "cache/packs").iterdir()) <= 1_000_000 * 1.5


@pytest.mark.slow
def test_two_workers_then_one_then_two_see_the_same_samples(packs, archive, tmp_path, calm):
    for workers in (2, 1):
        run, killed = streamed(packs, archive, tmp_path, workers=workers, max_failures=0), threading.Event()
        killer = threading.Thread(target=kill_after_one_more_checkpoint, args=(run, killed))
        killer.start()
        with pytest.raises(WorkerGroupError):
            train(run)
        killer.join()
    run = streamed(packs, archive, tmp_path, workers=2)
    train(run)
    assert_same_run(run, calm)


@pytest.mark.slow
def test_the_commands_of_the_how_to_on_archives_run_on_a_small_bucket(archive, tmp_path, s3):
    page = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    commands = re.search(r"## A terabyte.*?```\n(.*?)```", page, re.S)[1].splitlines()
    assert [command.split()[1] for command in commands] == ["data", "train", "evaluate"]
    for place in ("labels", "held-out"):
        save_dataset(load_dataset(str(archive)), open_store(f"s3://{s3}/{place}"))
    small = "network.widths=[8,8,16,16] network.frames_in=4 sampling.crop_wh=[64,48] --steps 2 --batch-size 4 "
    small += f"--warmup-steps 0 --cache {tmp_path} --cache-gb 0.0001 --workers 1"
    for command in commands:
        _, verb, *rest = shlex.split(command.replace("s3://archive", f"s3://{s3}"))
        assert main([verb, *rest, *(small.split() if verb == "train" else [])]) == 0
    names = {info.key for info in open_store(f"s3://{s3}").list()}
    assert {"run/model.safetensors", "evaluation/evaluation.json", "packs/dataset.json", "packs/packs.parquet"} <= names


@pytest.mark.slow
def test_a_sweep_trains_every_combination_and_says_which_is_best(archive, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("vary: {learning_rate: [1.0e-3, 1.0e-9], seed: [0]}\nby: f1\n")
    swept = config(archive, tmp_path, sweep=str(file), steps=8, hold_out_every=2, validate_every=2)
    report = run_training(swept)
    assert [trial.settings["learning_rate"] for trial in report.trials].count(1e-3) == 1 and len(report.trials) == 2
    assert not any(trial.error for trial in report.trials) and max(trial.steps for trial in report.trials) == 8
    assert load_model(report.best).card.recipe["steps"] == 8
    assert json.loads((tmp_path / "run/sweep.json").read_text())["best"] == report.best
    assert run_training(swept).trials == report.trials  # which goes on, and finds all of it done
    file.write_text("vary: {learning_rat: [1]}\nby: f1\n")
    with pytest.raises(ConfigError, match=r"no such setting: 'vary.learning_rat'"):
        run_training(swept)

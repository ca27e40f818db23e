"""What a run leaves in its output: a journal that goes on after a stop, and a mark that keeps a second run out."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError, StorageError
from specktrack.models.zoo import build
from specktrack.storage import open_store
from specktrack.training import TrainConfig, lease, train, trainer
from specktrack.training.journal import Journal
from specktrack.training.lease import sole_run
from specktrack.training.trainer import claim

NETWORK = {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16], "input_wh": [128, 80]}


def config(output, **options):
    settings = {"data": ["d"], "output": str(output), "network": NETWORK, "steps": 4, **options}
    return TrainConfig.parse(settings, environment={})


@pytest.fixture(params=["folder", "s3"])
def output(request, tmp_path):
    return tmp_path / "run" if request.param == "folder" else f"s3://{request.getfixturevalue('s3')}/run"


def steps_noted(output):
    return [json.loads(line)["step"] for line in open_store(str(output)).get("metrics.jsonl").splitlines()]


def test_a_journal_goes_on_where_it_stopped(output):
    for step in (1, 2):
        with Journal(config(output), enabled=True, first_step=step - 1) as journal:
            journal.write(step, "train", {"loss": 0.5})
    assert steps_noted(output) == [1, 2]
    assert len(list(open_store(str(output)).list("tensorboard/"))) == 2


def test_what_a_killed_run_noted_up_to_its_checkpoint_is_kept(output):
    killed = Journal(config(output), enabled=True, first_step=0).__enter__()
    killed.write(1, "train", {"loss": 0.5})
    killed.publish()
    assert steps_noted(output) == [1]
    with Journal(config(output), enabled=True, first_step=1) as journal:
        journal.write(2, "train", {"loss": 0.25})
        journal.save_model(build(config(output).network))
    assert steps_noted(output) == [1, 2] and open_store(str(output)).exists("model.safetensors")


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "STILL_S", 1.5)


def test_a_second_run_into_one_output_is_refused_while_the_first_is_at_work(output, hasty):
    store, who = open_store(str(output)), rf"process {os.getpid()} on .*"
    refused = pytest.raises(ConfigError, match=rf"another run is training into this output: '{who}; wait for it")
    with sole_run(store), refused, sole_run(store):
        pass
    for _ in range(2):  # one after the other they may
        with sole_run(store):
            pass


def test_training_itself_is_refused_where_another_run_is_at_work(tmp_path, hasty):
    write_archive(SynthConfig(videos=1, frames=8, width_px=128, height_px=80), str(tmp_path / "d"))
    run = config(tmp_path / "run", data=[str(tmp_path / "d")], workers=0)
    with sole_run(open_store(run.output)), pytest.raises(ConfigError, match="another run is training"):
        train(run)
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_an_output_that_cannot_keep_two_runs_apart_is_refused_or_has_a_single_writer(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    write_archive(SynthConfig(videos=1, frames=8, width_px=128, height_px=80), str(tmp_path / "d"))
    options = {"data": [str(tmp_path / "d")], "workers": 0, "steps": 1, "batch_size": 1, "sampling.crop_wh": [64, 48]}
    options |= {"cache": str(tmp_path / "cache"), "gpu": False}
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StorageError, match=r"hard links.*--single-writer"):
        train(config(tmp_path / "run", **options))
    assert train(config(tmp_path / "run", **options, single_writer=True)).steps == 1


def test_of_runs_that_begin_together_one_goes_on(output, hasty):
    taken, refused, go, done = [], [], threading.Barrier(6), threading.Event()

    def run():
        go.wait()
        try:
            with sole_run(open_store(str(output))):
                taken.append(1)
                done.wait(20)
        except ConfigError:
            refused.append(1)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    while len(refused) < 5 and any(thread.is_alive() for thread in threads):
        done.wait(0.05)
    done.set()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 5)


HOLDER = """
import sys, time
from specktrack.storage import open_store
from specktrack.training.lease import sole_run
with sole_run(open_store(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_after_a_killed_run_the_next_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "STILL_S", 1.5)
    environment = {**os.environ, "PYTHONPATH": "platform"}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with sole_run(open_store(str(tmp_path))):
        marks = sorted(path.name for path in Path(tmp_path, "lease").glob("*.json"))
    assert marks == ["000001.json", "000002.json"]


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """It noted fewer settings: those that came later do by default what it did."""
    run, store = config(tmp_path), open_store(str(tmp_path))
    claim(store, run)
    noted = json.loads((tmp_path / "config.json").read_text())
    for key in ("validation", "precision", "keep", "shards"):
        del noted[key]
    del noted["sampling"]["mirror"]
    (tmp_path / "config.json").write_text(json.dumps(noted))
    claim(store, run)
    with pytest.raises(ConfigError, match=r"with a different configuration: .keep: 'last' -> 'f1', validate_every: "):
        claim(store, config(tmp_path, keep="f1", validation=["v"]))
    with pytest.raises(ConfigError, match=r"a different configuration: .*network: "):
        claim(store, config(tmp_path, network="inpaintnet"))


def test_a_run_with_settings_that_are_not_known_is_refused(tmp_path):
    run, store = config(tmp_path), open_store(str(tmp_path))
    store.put("config.json", json.dumps({**trainer._deciding(run), "novelty": 1}).encode())
    with pytest.raises(ConfigError, match=r"settings this version does not accept: unknown key 'novelty'"):
        claim(store, run)

"""``specktrack annotate`` of little input: this process does the work, with the ledger and exit codes of a cluster."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.videos import encode

from specktrack.annotating import AnnotateConfig, job, plan
from specktrack.annotating.annotator import Annotator
from specktrack.annotating.job import annotate
from specktrack.annotating.workers import Here
from specktrack.ledger import read_annotations
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.models.zoo import build, network_config
from specktrack.schema import ClipRecord, ClipStatus, VideoRef

ROOT = Path(__file__).parents[1]
FRAMES = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    config = network_config({"name": "specknet", "widths": [8, 8, 16, 16], "frames_in": 4, "input_wh": (96, 64)})
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, build(config), ModelCard(name="small", network=config))
    return str(path)


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("one", "two"):
        encode(folder / f"{name}.mp4", frames=FRAMES)
    return folder


def test_little_input_needs_no_cluster(archive, model, tmp_path):
    code = (
        "import sys; from specktrack.cli.main import main; code = main(sys.argv[1:]);"
        "print(sorted({'ray', 'boto3'} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    words = ["annotate", str(archive), "--output", str(tmp_path / "out"), "--model", model, "--json"]
    env = {name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"}
    env |= {"PYTHONPATH": str(ROOT / "platform"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["committed"], report["frames"]) == (2, 2 * FRAMES)
    *lines, loaded = done.stderr.splitlines()
    assert loaded == "[]"
    said = next(line for line in map(json.loads, lines) if line["event"] == "working in this process")
    assert said["frames"] == 2 * FRAMES and said["because"]
    assert read_annotations(str(tmp_path / "out")).num_rows == 2 * FRAMES
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.fixture
def alone(monkeypatch):
    """Neither a cluster that is named nor one that another test is connected to."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.mark.usefixtures("alone")
def test_it_resumes_and_sets_aside_as_a_cluster_does(archive, model, tmp_path):
    config = AnnotateConfig(sources=(str(archive),), output=str(tmp_path / "out"), model=model)
    first = annotate(config)
    assert (first.committed, first.resumed, first.exit_code) == (2, 0, 0)
    (archive / "three.mp4").write_bytes(b"no video at all")
    second = annotate(config)
    assert (second.committed, second.resumed, second.exit_code) == (0, 2, 5)
    assert sum(second.quarantined.values()) == 1
    assert second.rows == 2 * FRAMES


@pytest.mark.usefixtures("alone")
def test_what_is_complete_is_neither_measured_nor_sealed_again(archive, model, tmp_path, monkeypatch):
    output = tmp_path / "out"
    config = AnnotateConfig(sources=(str(archive),), output=str(output), model=model, clip_s=0.2)
    first = annotate(config)
    measured, sealed = [], (output / "_SUCCESS").stat().st_mtime_ns
    cut = plan.cut
    monkeypatch.setattr(plan, "cut", lambda video, *more: measured.append(video.name) or cut(video, *more))
    second = annotate(config.model_copy(update={"address": "local"}))  # which starts none: there is nothing to do
    assert (second.clips, second.resumed, second.committed) == (first.clips, first.committed, 0) and first.clips > 2
    assert (second.rows, second.exit_code, measured) == (first.rows, 0, [])
    assert (output / "_SUCCESS").stat().st_mtime_ns == sealed
    lost = sorted(output.glob("records/two-*/*.json"))[1]
    lost.unlink()
    third = annotate(config)
    assert (third.committed, third.resumed, measured) == (1, first.clips - 1, ["two"]) and lost.exists()


@pytest.mark.parametrize(
    ("spans", "frames", "whole"),
    [
        ([(0, 5)], 5, True),
        ([(5, 9), (0, 5)], 9, True),
        ([(0, 5)], 9, False),
        ([(5, 9)], 9, False),
        ([(0, 4), (5, 9)], 9, False),
        ([(0, 5), (4, 9)], 9, False),
        ([(0, 5)], None, False),
        ([], 0, False),
    ],
)
def test_records_of_all_frames_cover_a_video(spans, frames, whole):
    video = VideoRef(uri="file:///a.mp4", etag="1", size_bytes=1)
    said = {"status": ClipStatus.COMMITTED, "model_sha": "m", "config_sha": "c", "frames": frames}
    assert plan.covers([ClipRecord(video=video, start=start, stop=stop, **said) for start, stop in spans]) is whole


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("settings", "videos", "why"),
    [
        ({}, 1, ""),
        ({}, 9, "there are 9 videos"),
        ({"address": "auto"}, 1, "a cluster was asked for"),
        ({"address": "local"}, 1, "a cluster was asked for"),
        ({"workers": 2}, 1, "a cluster was asked for"),
    ],
)
def test_when_a_cluster_does_the_work(settings, videos, why):
    assert job.cluster_needed(settings.get("address"), settings.get("workers"), videos) == why


@pytest.mark.usefixtures("alone")
def test_a_cluster_that_the_environment_names_does_the_work(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert job.cluster_needed(None, None, 1) == "there is one"


@pytest.mark.usefixtures("alone")
def test_few_videos_of_many_frames_go_to_a_cluster_after_they_were_measured(archive, model, tmp_path, monkeypatch):
    asked = []

    class Cluster(Here):
        """Stands where Ray would, and works all the same."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(job, "MOST_FRAMES_HERE", 2 * FRAMES - 1)
    monkeypatch.setattr(job, "on_ray", lambda address, most, because: asked.append(because) or Cluster())
    report = annotate(AnnotateConfig(sources=(str(archive),), output=str(tmp_path / "out"), model=model))
    assert asked == [f"{2 * FRAMES} frames are to be annotated"]
    assert report.committed == 2


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("interrupts", "committed"), [(1, 1), (2, 0)])
def test_ctrl_c_finishes_the_clip_and_a_second_one_does_not(
    archive, model, tmp_path, monkeypatch, interrupts, committed
):
    class Interrupted(Annotator):
        def work(self, clip, info):
            for _ in range(interrupts):
                signal.raise_signal(signal.SIGINT)
            return super().work(clip, info)

    monkeypatch.setattr(signal, "SIGINT", signal.SIGUSR1)  # the tests' own interrupt stays what it is
    monkeypatch.setattr(job, "Annotator", Interrupted)
    config = AnnotateConfig(sources=(str(archive),), output=str(tmp_path / "out"), model=model)
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt):
        annotate(config)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert len(list((tmp_path / "out/records").rglob("*.json"))) == committed
    monkeypatch.setattr(job, "Annotator", Annotator)
    report = annotate(config)
    assert (report.resumed, report.committed) == (committed, 2 - committed)


@pytest.mark.usefixtures("alone")
def test_a_dry_run_says_what_the_run_would_take(archive, model, tmp_path):
    config = AnnotateConfig(
        sources=(str(archive),), output=str(tmp_path / "out"), model=model, dry_run=True, price=36.0
    )
    report = annotate(config)
    expected = report.estimate
    assert (expected.frames, expected.workers) == (report.planned_frames, 1) == (2 * FRAMES, 1)
    assert expected.cost == pytest.approx(36 * expected.seconds / 3600, rel=0.05, abs=1e-3)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.*"))
    done = annotate(config.model_copy(update={"dry_run": False}))
    assert done.estimate is None
    assert (done.frames, done.resumed) == (expected.frames, 0) and expected.seconds > 0


@pytest.mark.usefixtures("alone")
def test_of_a_run_that_is_complete_nothing_is_tried(archive, model, tmp_path):
    config = AnnotateConfig(sources=(str(archive),), output=str(tmp_path / "out"), model=model)
    annotate(config)
    expected = annotate(config.model_copy(update={"dry_run": True})).estimate
    assert (expected.frames, expected.seconds, expected.cost) == (0, 0.0, None)

"""Template trackers trained on Ray Train with two workers, with a teacher and without."""

import json
from pathlib import Path

import pytest
from tests.test_template_tracking import tiny

from specktrack.datasets.patches import PatchesConfig, write_patches
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models.checkpoint import load_model
from specktrack.training import TrainConfig, train

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    write_patches(PatchesConfig(sequences=3, frames=9, width_px=96, height_px=64), str(folder))
    return folder


def config(sequences, output, **options):
    settings = {
        "data": [str(sequences)], "output": str(output), "cache": str(sequences / "cache"),
        "network": tiny().config.model_dump(), "steps": 3, "batch_size": 4, "workers": 2, "log_every": 1,
        "precision": "fp32", "checkpoint_every": 2, "pairs": {"templates": 2, "searches": 2}, **options,
    }  # fmt: skip
    return TrainConfig.parse(settings, environment={})


def test_two_workers_train_a_student_of_the_teacher_they_trained(sequences, tmp_path):
    report = train(config(sequences, tmp_path / "teacher"))
    teacher = load_model(tmp_path / "teacher")
    assert report.steps == 3 and teacher.config == tiny().config and teacher.card.recipe["steps"] == 3
    distill = {"teacher": str(tmp_path / "teacher"), "tiny_px": 7}
    train(config(sequences, tmp_path / "student", distill=distill, init=str(tmp_path / "teacher")))
    lines = [json.loads(line) for line in (Path(tmp_path) / "student/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert set(lines[0]) >= {
        "loss",
        "boxes",
        "scores",
        "found",
        "distilled",
        "gate_boxes",
        "gate_scores",
        "discriminator",
    }
    alone = {"workers": 1, "shards": 2, "distill": distill, "init": str(tmp_path / "teacher")}
    train(config(sequences, tmp_path / "alone", **alone))
    same = [json.loads(line) for line in (Path(tmp_path) / "alone/metrics.jsonl").read_text().splitlines()]
    for ours, theirs in zip(lines, same, strict=True):
        for name in ("loss", "distilled", "discriminator", "gate_boxes"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-6), (ours["step"], name)
    with pytest.raises(ConfigError, match="the output has a run with a different configuration"):
        train(config(sequences, tmp_path / "teacher", seed=4))
    with pytest.raises(CheckpointError, match="it is in the zoo, but has no shipped weights"):
        train(config(sequences, tmp_path / "other", distill={"teacher": "super-dimp"}))

"""A search network is trained by two workers, and goes on where it stopped."""

from pathlib import Path

import pytest
from tests.test_global_search import run_of

from specktrack.models.checkpoint import load_model
from specktrack.training import train

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_two_workers_train_one_network_and_a_finished_run_is_not_repeated(ray_local: None, tmp_path: Path) -> None:
    config = run_of(tmp_path, workers=2, checkpoint_every=2)
    report = train(config)
    model = load_model(tmp_path / "run/model.safetensors")
    assert (report.steps, model.card.name) == (3, "found")
    again = train(config)
    assert again.steps == 3
    assert load_model(tmp_path / "run/model.safetensors").sha256 == model.sha256

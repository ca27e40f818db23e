"""Scores that can be taken at their word."""

import numpy as np
import pytest
import torch

from specktrack.frames import FrameBatch, Viewport, concat
from specktrack.metrics.calibration import fitted, reliability
from specktrack.models.checkpoint import Calibration, Model, ModelCard, load_model, save_model
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.zoo import build
from specktrack.storage import to_uri
from specktrack.tracking.tracker import tracker_of


def scores(slope, offset, n=40_000):
    """Scores [n], and whether each is right: as often as sigmoid(slope * logit(s) + offset) says."""
    draw = np.random.default_rng(0)
    score = draw.uniform(0.02, 0.98, n)
    odds = np.exp(slope * np.log(score / (1 - score)) + offset)
    return score, draw.random(n) < odds / (1 + odds)


def test_reliability_by_hand():
    found = reliability(np.array([0.05, 0.95, 0.95, 1.0]), np.array([False, True, False, True]))
    assert [(of.low, of.high, of.rows) for of in found.bins] == [(0.0, 0.1, 1), (0.9, 1.0, 3)]
    assert found.bins[1].right == pytest.approx(2 / 3) and found.bins[1].score == pytest.approx(2.9 / 3)
    assert found.error == pytest.approx((0.05 + 3 * (2.9 / 3 - 2 / 3)) / 4)
    assert reliability(np.zeros(0), np.zeros(0, bool)) is None


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.0, 1.0), (0.4, -0.5)])
def test_what_was_fitted_makes_scores_probabilities(slope, offset):
    score, right = scores(slope, offset)
    found = Calibration(**dict(zip(("slope", "offset"), fitted(score, right), strict=True)))
    assert found.slope == pytest.approx(slope, abs=0.05) and found.offset == pytest.approx(offset, abs=0.05)
    assert reliability(found.of(score), right).error < 0.01
    if (slope, offset) != (1.0, 0.0):
        assert reliability(score, right).error > 0.05


def test_without_a_fit_scores_are_bit_equal():
    score = np.array([0.0, 0.3, 1.0], np.float32)
    assert Calibration().of(score) is score


def test_the_card_s_calibration_is_in_the_rows_and_survives_the_file(tmp_path):
    torch.manual_seed(0)
    network = build(SpeckNetConfig(widths=(8, 8, 16, 16)))
    calibration = Calibration(slope=2.0, offset=1.5)
    path = tmp_path / "model.safetensors"
    save_model(path, network, ModelCard(name="fitted", network=network.config, calibration=calibration))
    model = load_model(path)
    assert model.card.calibration == calibration
    plain = rows(Model(model.network, model.card.model_copy(update={"calibration": Calibration()})))
    found = rows(model)
    np.testing.assert_array_equal(found.xy_px, plain.xy_px)
    np.testing.assert_allclose(found.score, calibration.of(plain.score))
    assert (found.score != plain.score).all()


def rows(model):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 64, 3), dtype=np.uint8)
    frame = np.arange(len(pixels))
    session = tracker_of(model).open()
    batch = FrameBatch(pixels, frame, frame / 30, Viewport((64, 32), (64, 32)))
    return concat([session.push(batch), session.finish()])


def test_a_model_is_found_by_the_uri_that_a_training_run_reports(tmp_path):
    network = build(SpeckNetConfig(widths=(8, 8, 16, 16)))
    path = tmp_path / "a model.safetensors"
    save_model(path, network, ModelCard(name="here", network=network.config))
    assert load_model(to_uri(str(path))).card.name == "here"

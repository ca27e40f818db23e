import json

import numpy as np
import pytest
import torch

from specktrack import models
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models import build, network_config
from specktrack.models.windowed_entries import SpeckNetConfig
from specktrack.training.config import RECIPES, TrainConfig, recipe_path
from specktrack.training.state import TrainState

CPU = torch.device("cpu")
TINY = {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16]}


def config(**options):
    return TrainConfig.parse(
        {"data": ["d"], "output": "o", "network": TINY, "warmup_steps": 2, **options}, environment={}
    )


def pictures(frames_in, windows, seed=0, wh=(64, 48)):
    """Windows of a bright dot that flies over noise, and its positions."""
    draw = np.random.default_rng(seed)
    frames = draw.uniform(0, 0.4, (windows, frames_in, 3, wh[1], wh[0])).astype(np.float32)
    xy = np.zeros((windows, frames_in, 2), np.float32)
    for window in range(windows):
        start, way = draw.uniform((12, 12), (wh[0] - 24, wh[1] - 20)), draw.uniform(-1.0, 1.5, 2)
        for t in range(frames_in):
            x, y = xy[window, t] = start + way * t
            ys, xs = np.mgrid[: wh[1], : wh[0]]
            frames[window, t] += np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 2)
    return torch.from_numpy(frames).clamp(0, 1), torch.from_numpy(xy)


@pytest.mark.parametrize("name", [name for name, entry in models.ZOO.items() if entry.family == "windowed"])
def test_every_network_overfits_16_frames_to_under_one_px(name):
    torch.manual_seed(0)
    network_of = network_config(name)
    frames, xy = pictures(network_of.frames_in, -(-16 // network_of.frames_in))
    state = TrainState(build(network_of).train(), config(steps=400, warmup_steps=5, learning_rate=3e-3), CPU)
    for _ in range(200):
        results = state.network.loss(frames, xy)
        state.update(results["loss"])
        if results["recall"] == 1 and results["error_px"] < 0.7:
            break
    assert results["recall"] == 1 and results["error_px"] < 1


def steps(state, numbers):
    losses = []
    for number in numbers:
        results = state.network.loss(*pictures(4, 2, seed=number))
        state.update(results["loss"])
        losses.append(float(results["loss"].detach()))
    return losses


def fresh(seed=0):
    torch.manual_seed(seed)
    return TrainState(build(SpeckNetConfig(**TINY)).train(), config(steps=8), CPU)


def test_a_restored_state_goes_on_exactly(tmp_path):
    whole, first = fresh(), fresh()
    losses = steps(whole, range(8))
    steps(first, range(5))
    first.save(tmp_path)
    second = fresh(seed=99)
    second.restore(tmp_path)
    assert second.step == 5 and steps(second, range(5, 8)) == losses[5:]
    for part in ("network", "average"):
        ours, theirs = (getattr(s, part).state_dict() for s in (second, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_golden_first_losses():
    np.testing.assert_allclose(steps(fresh(), range(4)), GOLDEN, rtol=2e-3)


GOLDEN = [14.200603, 13.705899, 14.372502, 12.934405]
"""Losses of the first steps; a refactoring may not change them."""


def test_a_cut_checkpoint_is_refused(tmp_path):
    fresh().save(tmp_path)
    file = tmp_path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        fresh().restore(tmp_path)


def test_the_learning_rate_warms_up_and_falls():
    state = fresh()
    rates = []
    for state.step in range(8):
        rates.append(state.learning_rate())
    assert rates[0] == pytest.approx(0.5e-3) and max(rates) == rates[2] == 1e-3 and rates[-1] < 0.1e-3


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_shipped_recipes_are_valid(name):
    recipe = TrainConfig.parse({"data": ["d"], "output": "o"}, yaml_file=recipe_path(name), environment={})
    assert recipe.network.name in models.ZOO


def test_an_unknown_recipe_is_answered_with_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"no such recipe: 'nosuch'; shipped are: specknet, specknet-cpu"):
        recipe_path("nosuch")


@pytest.mark.parametrize(("options", "message"), [
    ({"batch_size": 7, "workers": 2}, "batch_size 7 must be a multiple of workers 2"),
    ({"sampling.crop_wh": "[100, 96]"}, "must be multiples of 16"),
    ({"learning_rat": 1}, "unknown key 'learning_rat'; did you mean 'learning_rate'"),
    ({"network": {"name": "nosuch"}}, "no such network"),
    ({"network": {"name": "specknet", "width": 1}}, "unknown key 'width'"),
])  # fmt: skip
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        config(**options)


def test_the_resolved_configuration_survives_json():
    whole = config(seed=3)
    assert TrainConfig.model_validate(json.loads(whole.model_dump_json())) == whole

import json
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from specktrack.augment.pictures import Blend
from specktrack.config import read_yaml
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models import zoo
from specktrack.models.checkpoint import load_model
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.zoo import build, network_config
from specktrack.training import train
from specktrack.training.config import RECIPES, TrainConfig, recipe_path
from specktrack.training.shards import shards_of
from specktrack.training.start import first_network, start_from
from specktrack.training.state import TrainState
from specktrack.training.windowed import course as windowed_course
from specktrack.training.windowed.config import WindowedTrainConfig
from specktrack.training.windowed.course import WindowedCourse
from specktrack.training.windowed.learning import judged
from specktrack.training.worker import Learner, learn

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


@pytest.mark.parametrize("name", [name for name, entry in zoo.ZOO.items() if entry.family == "windowed"])
def test_every_network_overfits_16_frames_to_under_one_px(name):
    torch.manual_seed(0)
    network_of = network_config(name)
    frames, xy = pictures(network_of.frames_in, -(-16 // network_of.frames_in))
    if network_of.wants_background:
        frames = torch.cat([frames.median(dim=1, keepdim=True).values, frames], dim=1)
    state = TrainState(build(network_of).train(), config(steps=400, warmup_steps=5, learning_rate=1e-3), CPU)
    for _ in range(200):
        results = state.network.loss(frames, xy)
        state.update(results["loss"])
        if results["recall"] == 1 and results["error_px"] < 0.9:
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


def test_steps_left_out_are_counted_over_a_restart(tmp_path):
    first, second = fresh(), fresh()
    first.skipped = 3
    first.save(tmp_path)
    second.restore(tmp_path)
    assert second.skipped == 3 and second.figures()["skipped"] == 3.0


def test_a_restored_state_goes_on_exactly(tmp_path):
    whole, first = fresh(), fresh()
    losses = steps(whole, range(8))
    steps(first, range(5))
    first.save(tmp_path)
    second = fresh(seed=99)
    second.restore(tmp_path)
    assert second.step == 5 and second.skipped == 0 and steps(second, range(5, 8)) == losses[5:]
    for part in ("network", "average"):
        ours, theirs = (getattr(s, part).state_dict() for s in (second, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("size", ["128,80", "128x80", [128, 80]])
def test_a_size_may_be_written_in_any_way(size):
    settings = {"data": ["d"], "output": "o", "network": {"name": "wasb"}, "network.input_wh": size}
    assert TrainConfig.parse(settings, environment={}).network.input_wh == (128, 80)


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


RECIPE_NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe(name, **options):
    needs = read_yaml(recipe_path(name)).get("needs", {})
    needed = {key: ["a-dataset"] if key == "validation" else "a-model" for key in needs}
    options = {"data": ["d"], "output": "o", **needed, **options}
    return TrainConfig.parse(options, yaml_file=recipe_path(name), environment={})


WINDOWED = [name for name in RECIPE_NAMES if recipe(name).network.family == "windowed"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    write_archive(SynthConfig(videos=1, frames=24, width_px=128, height_px=80), str(folder))
    return folder


@pytest.mark.parametrize("name", WINDOWED)
def test_every_recipe_of_a_windowed_network_runs_two_steps(name, rendered):
    small = {"sampling.crop_wh": [64, 48], **({"network": "tracknet-v2"} if name == "fast" else {})}
    run = recipe(name, data=[str(rendered)], batch_size=2, **small)
    assert run.network.name in zoo.ZOO and run.steps > 2
    losses = learned(run, rendered, steps=2)
    assert len(losses) == 2 and np.isfinite(losses).all() and losses[0] > 0


def test_training_in_this_process_needs_no_cluster(rendered, tmp_path):
    run = TrainConfig.parse(
        {"data": [str(rendered)], "output": str(tmp_path / "run"), "network": {**TINY, "input_wh": [128, 80]},
         "cache": str(tmp_path), "sampling.crop_wh": [64, 48], "steps": 3, "batch_size": 2, "workers": 0,
         "validation": [str(rendered)]},
        environment={},
    )  # fmt: skip
    began = ray.is_initialized()  # by another test of the same process
    report = train(run)
    assert report.steps == 3 and "f1" in report.validation and ray.is_initialized() == began
    assert load_model(run.output).card.recipe["workers"] == 0


def test_the_weights_that_were_best_in_validation_become_the_model(rendered, tmp_path, monkeypatch):
    """TrackNetV3's choice. What is measured is told here, so that the middle of three measurements is the best."""
    measured, weights = iter([0.5, 0.75, 0.25]), []

    def told(network, *_):
        weights.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return {"accuracy": next(measured), "f1": len(weights)}

    monkeypatch.setattr(windowed_course, "validate", told)
    run = TrainConfig.parse(
        {"data": [str(rendered)], "output": str(tmp_path / "run"), "network": {**TINY, "input_wh": [128, 80]},
         "cache": str(tmp_path), "sampling.crop_wh": [64, 48], "steps": 6, "batch_size": 2, "workers": 0,
         "validation": [str(rendered)], "validate_every": 2, "keep": "accuracy"},
        environment={},
    )  # fmt: skip
    assert train(run).validation == {"accuracy": 0.75, "f1": 2}
    kept = load_model(run.output)
    assert kept.card.metrics == {"accuracy": 0.75, "f1": 2}
    ours = kept.network.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in weights[1].items())
    assert any(not torch.equal(ours[name], tensor) for name, tensor in weights[2].items())


def test_the_best_weights_outlive_a_restart(tmp_path):
    def choosing():
        run = config(steps=8, keep="f1", validation=["d"])
        return TrainState(build(SpeckNetConfig(**TINY)).train(), run, CPU)

    first, again = choosing(), choosing()
    steps(first, range(2))
    first.best.offer(first.average, {"f1": 0.5})
    best = {name: tensor.clone() for name, tensor in first.average.state_dict().items()}
    steps(first, range(2, 3))
    first.save(tmp_path)
    again.restore(tmp_path)
    again.best.offer(again.average, {"f1": 0.4})
    assert again.best.figures == {"f1": 0.5}
    assert all(torch.equal(again.best.network.state_dict()[name], tensor) for name, tensor in best.items())
    again.best.offer(again.average, {"f1": 0.5})  # of equals the later
    ours, latest = (network.state_dict() for network in (again.best.network, again.average))
    assert all(torch.equal(ours[name], tensor) for name, tensor in latest.items())


def test_a_choice_without_a_video_to_measure_on_is_refused(rendered, tmp_path):
    run = TrainConfig.parse(
        {"data": [str(rendered)], "output": str(tmp_path / "run"), "network": {**TINY, "input_wh": [128, 80]},
         "cache": str(tmp_path), "sampling.crop_wh": [64, 48], "workers": 0, "hold_out_every": 5, "keep": "f1"},
        environment={},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="keep=f1 has no video to validate on: 5"):
        train(run)


def test_a_network_starts_from_the_weights_of_its_base():
    network, base = build(network_config("tracknet-v4")), build(network_config("tracknet-v2"))
    start_from(network, base.state_dict(), name="base")
    ours, theirs = network.state_dict(), base.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    with pytest.raises(ConfigError, match=r"the wrong shape: 'size mismatch for .*' \(init base for wasb\)"):
        start_from(build(network_config("wasb")), theirs, name="base")


def test_fresh_weights_can_be_drawn_as_keras_does():
    ours = first_network(recipe("tracknet-v2"), HeatmapNetwork)
    weights = {name: tensor for name, tensor in ours.state_dict().items() if tensor.ndim == 4}
    assert all(0.045 < float(tensor.abs().max()) <= 0.05 for tensor in weights.values()) and len(weights) == 18
    assert float(weights["unet.bottom.0.weight"].std()) == pytest.approx(0.1 / 12**0.5, rel=0.01)
    assert not any(ours.state_dict()[name.replace("weight", "bias")].any() for name in weights)
    theirs = first_network(recipe("tracknet-v2", fresh_weights="own"), HeatmapNetwork).state_dict()
    assert float(theirs["unet.bottom.0.weight"].abs().max()) < 0.03


def learned(recipe, folder, *, steps):
    """Losses of the first steps of a run, without Ray and without the models that the recipe needs."""
    network = recipe.network.model_copy(update={"input_wh": (128, 80)})
    alone = {"init": "", "distill": None, "mining": None, "validation": (), "keep": "last", "hold_out_every": 0}
    course = WindowedCourse(
        recipe.model_copy(update={**alone, "network": network, "cache": str(folder / "cache")}), CPU
    )
    state = course.state(course.network())
    learner, losses = Learner(course, state), []
    for step in range(steps):
        mine = shards_of(step, batch_size=recipe.batch_size, parts=recipe.parts)
        losses.append(float(learn(learner, state, tuple(map(course.samples, mine)))["loss"]))
    return losses


def test_every_network_of_the_zoo_has_its_recipe():
    trained = {name for name, entry in zoo.ZOO.items() if entry.family in ("windowed", "repair", "search")}
    assert trained | {"super-dimp", "mkdnet"} <= {recipe(name).network.name for name in RECIPE_NAMES}


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_the_family_of_a_recipes_network_decides_what_validates_it(name):
    family = recipe(name).network.family
    assert type(recipe(name)) is TrainConfig.classes()[family]
    with pytest.raises(
        ConfigError, match=rf"unknown key 'stepz'; did you mean 'steps'.*\(configuration of 'train' for {family}"
    ):
        recipe(name, stepz=1)


@pytest.mark.parametrize("name", ["mkdnet", "mkdnet-released"])
def test_mkdnet_is_told_its_start_and_its_teacher(name):
    told = recipe(name, init="a.safetensors", **{"distill.teacher": "b.safetensors"})
    assert told.models == tuple(str(Path(name).absolute()) for name in ("a.safetensors", "b.safetensors"))
    assert told.distill.preset == ("released" if name == "mkdnet-released" else "paper")
    with pytest.raises(ConfigError, match=r"this recipe needs distill\.teacher \(the same weights\)"):
        recipe(name, init="a.safetensors", **{"distill.teacher": ""})


def test_a_recipe_is_refused_without_what_it_needs():
    given = {"data": ["d"], "output": "o"}
    with pytest.raises(
        ConfigError, match=r"needs init \(the model of .*\) and mining\.model \(the same model, .*'train'"
    ):
        TrainConfig.parse(given, yaml_file=recipe_path("wasb-mined"), environment={})
    with pytest.raises(ConfigError, match=r"needs init \(the model of a run of --recipe tracknet-v2\) "):
        TrainConfig.parse(given, yaml_file=recipe_path("tracknet-v4-finetune"), environment={})
    with pytest.raises(ConfigError, match=r"needs validation \(the last rally of every training match, .*'train'"):
        TrainConfig.parse(given, yaml_file=recipe_path("tracknet-v3"), environment={})
    mined = recipe("wasb-mined", init="a.safetensors")
    assert (mined.init, mined.mining.model) == tuple(
        str(Path(name).absolute()) for name in ("a.safetensors", "a-model")
    )
    assert TrainConfig.read(mined.model_dump(mode="json")) == mined
    with pytest.raises(ConfigError, match="needs must be a mapping from a key to what to give there"):
        TrainConfig.parse({**given, "needs": ["init"]}, environment={})


def test_settings_of_another_family_are_refused():
    with pytest.raises(ConfigError, match=r"unknown key 'hiding'; .*\(configuration of 'train' for template"):
        recipe("super-dimp", **{"hiding.frames": 0.2})
    with pytest.raises(ConfigError, match=r"for windowed networks\); see 'specktrack train --help'"):
        WindowedTrainConfig.parse({"data": ["d"], "output": "o", "network": "super-dimp"}, environment={})


def test_epochs_are_counted_in_windows():
    assert config(epochs=2.5, batch_size=4).with_steps(windows=100).steps == 62
    assert config(steps=7).with_steps(windows=100).steps == 7
    once_per_epoch = config(epochs=3, batch_size=10, validate_every=0).with_steps(windows=104)
    assert (once_per_epoch.steps, once_per_epoch.validate_every) == (31, 10)


@pytest.mark.parametrize(("options", "rates"), [
    ({"schedule": "constant"}, [1, 1, 1, 1]),
    ({"schedule": "steps", "milestones": [0.3333, 0.6667]}, [1, 1, 0.1, 0.01]),
    ({"schedule": "cosine"}, [1, 0.99 * (1 + np.cos(np.pi * 0.3)) / 2 + 0.01, None, None]),
])  # fmt: skip
def test_schedules(options, rates):
    run = config(steps=30, warmup_steps=0, learning_rate=2.0, **options)
    for step, wanted in zip((0, 9, 15, 25), rates, strict=True):
        assert wanted is None or run.learning_rate * run.factor(step) == pytest.approx(2.0 * wanted)


@pytest.mark.parametrize(("name", "kind"), [
    ("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("adadelta", torch.optim.Adadelta),
])  # fmt: skip
def test_every_optimiser_learns_and_goes_on_exactly(name, kind, tmp_path):
    run = config(steps=8, optimiser=name, learning_rate=1.0 if name == "adadelta" else 1e-3, warmup_steps=0)
    torch.manual_seed(0)
    whole = TrainState(build(SpeckNetConfig(**TINY)).train(), run, CPU)
    assert type(whole.optimizer) is kind
    start = {key: value.clone() for key, value in whole.network.state_dict().items()}
    steps(whole, range(3))
    whole.save(tmp_path)
    again = TrainState(build(SpeckNetConfig(**TINY)).train(), run, CPU)
    again.restore(tmp_path)
    assert steps(again, range(3, 5)) == steps(whole, range(3, 5))
    assert not torch.equal(start["head.weight"], whole.network.state_dict()["head.weight"])


def test_a_batch_that_is_not_finite_changes_nothing_but_the_count():
    state = fresh()
    steps(state, range(2))
    before = {key: value.clone() for key, value in state.network.state_dict().items()}
    frames, xy = pictures(4, 2)
    state.update(state.network.loss(frames * torch.inf, xy)["loss"])
    assert (state.step, state.skipped) == (3, 1)
    after = state.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items() if value.is_floating_point())
    assert np.isfinite(steps(state, [2])).all()


def test_a_run_whose_gradients_are_not_finite_ends_with_the_remedy():
    state = fresh()
    with pytest.raises(ConfigError, match=r"not finite in too many steps: 2 \(step 2\); lower learning_rate"):
        for _ in range(3):
            state.update(sum(p.sum() for p in state.network.parameters()) * torch.inf)


def test_a_flipped_bit_in_a_checkpoint_is_seen(tmp_path):
    fresh().save(tmp_path)
    file = tmp_path / "state.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-40] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="does not match its hash"):
        fresh().restore(tmp_path)


def test_shards_on_one_worker_give_the_mean_gradient_and_statistics():
    """Two shards in a row: the gradient of the mean loss, and batch statistics that are the mean of both."""
    one, other = (pictures(4, 2, seed=seed) for seed in (1, 2))
    state, twins = fresh(), (fresh(), fresh())
    for number, (frames, xy) in enumerate((one, other)):
        (state.network.loss(frames, xy)["loss"] / 2).backward()
        if number == 0:
            state.buffers.next_shard()
    for twin, (frames, xy) in zip(twins, (one, other), strict=True):
        twin.network.loss(frames, xy)["loss"].backward()
    for name, parameter in state.network.named_parameters():
        apart = [dict(twin.network.named_parameters())[name].grad for twin in twins]
        torch.testing.assert_close(parameter.grad, (apart[0] + apart[1]) / 2, rtol=1e-4, atol=1e-5)
    state.apply()
    for name, buffer in state.network.named_buffers():
        if buffer.is_floating_point():
            apart = [dict(twin.network.named_buffers())[name] for twin in twins]
            torch.testing.assert_close(buffer, (apart[0] + apart[1]) / 2)


def test_blended_windows_are_judged_by_blended_labels():
    network = fresh().network
    frames, xy = pictures(4, 2)
    share = torch.full((2, 4), 0.75)
    wanted = 0.75 * network.wanted(xy, (48, 64)) + 0.25 * network.wanted(xy.flip(0), (48, 64))
    with torch.no_grad():
        given = judged(network, Blend(frames, xy, xy.flip(0), share))["loss"]
        assert given == pytest.approx(float(network.judge(network(frames), wanted, xy)["loss"]), rel=1e-5)
        unmixed = Blend(frames, xy, xy, torch.ones(2, 4))
        assert judged(network, unmixed)["loss"] == network.loss(frames, xy)["loss"]


def test_an_unknown_recipe_is_answered_with_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"no such recipe: 'nosuch'; available: .*fast, "):
        recipe_path("nosuch")


@pytest.mark.parametrize(("options", "message"), [
    ({"batch_size": 7, "workers": 2}, "batch_size 7 must be a multiple of workers 2"),
    ({"sampling.crop_wh": "[100, 96]"}, "must be multiples of 16"),
    ({"learning_rat": 1}, "unknown key 'learning_rat'; did you mean 'learning_rate'"),
    ({"network": {"name": "nosuch"}}, "no such network"),
    ({"keep": "f1"}, "keep=f1 chooses by validation: give validation or hold_out_every"),
    ({"network": {"name": "specknet", "width": 1}}, "unknown key 'width'"),
])  # fmt: skip
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        config(**options)


def test_the_resolved_configuration_survives_json():
    whole = config(seed=3)
    assert TrainConfig.read(json.loads(whole.model_dump_json())) == whole


def test_a_run_sets_the_momentum_of_batch_norm_or_leaves_it_to_the_network():
    own, set_to = (
        {
            module.momentum
            for module in TrainState(
                build(network_config("tracknet-v2")), config(norm_momentum=momentum), torch.device("cpu")
            ).network.modules()
            if isinstance(module, torch.nn.BatchNorm2d)
        }
        for momentum in (None, 0.2)
    )
    assert (own, set_to) == ({0.01}, {0.2})


def test_places_are_absolute_for_workers_elsewhere_and_packaged_models_stay_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    given = {"data": ["a", "s3://bucket/b"], "output": "o", "validation": ["../c"], "init": "run"}
    run = TrainConfig.parse({**given, "distill": {"teacher": "specknet"}}, environment={})
    assert (run.output, run.data) == (str(tmp_path / "o"), (str(tmp_path / "a"), "s3://bucket/b"))
    assert run.validation == (str(tmp_path.parent / "c"),)
    assert (run.init, run.distill.teacher) == (str(tmp_path / "run"), "specknet")
    assert TrainConfig.parse({**given, "init": "elsewhere"}, environment={}).init == str(tmp_path / "elsewhere")

"""Held in memory or streamed from packs: every family sees the same samples bit by bit. What decides which it is."""

import time

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.test_global_search import TINY as SEARCH
from tests.test_template_tracking import tiny

from specktrack.datasets.patches import PatchesConfig, write_patches
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError, StorageError
from specktrack.preparing import PrepareConfig, prepare
from specktrack.training import TrainConfig, prefetch
from specktrack.training.course import course_of
from specktrack.training.feeding import decoded_bytes, settled
from specktrack.training.prefetch import prefetched_in_order
from specktrack.training.streaming import read_units
from specktrack.training.waiting import Waiting

WH = (128, 80)
SPECKNET = {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16], "input_wh": list(WH)}
V3 = {"name": "tracknet-v3", "frames_in": 4, "input_wh": list(WH)}
FAMILIES = {
    "windowed": {"network": SPECKNET, "sampling": {"crop_wh": [64, 48], "paste": 0.5, "on_motion": 0.5}},
    "background": {"network": V3, "sampling": {"crop_wh": list(WH)}},
    "search": {"network": {**SEARCH, "input_wh": list(WH)}, "sampling": {"crop_wh": [96, 64], "own_objects": 0.5}},
    "template": {"network": tiny().config.model_dump(mode="json"), "pairs": {"templates": 2, "searches": 1}},
    "repair": {"network": "inpaintnet", "hiding": {"runs": 0.5}},
}


def packs(data, destination, **options):
    given = {"data": str(data), "destination": str(destination), "input_wh": list(WH), "clip_s": 0.3, **options}
    return prepare(PrepareConfig.parse(given, environment={}))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    write_archive(SynthConfig(videos=2, frames=40, width_px=256, height_px=160), str(folder / "archive"))
    write_patches(PatchesConfig(sequences=2, frames=9, width_px=96, height_px=64), str(folder / "sequences"))
    packs(folder / "archive", folder / "archive-packs")
    packs(folder / "archive", folder / "archive-jpeg", pictures="jpeg")
    packs(folder / "sequences", folder / "sequences-packs", own_size=True)
    return folder


def config(places, name, data, **options):
    given = {"data": [str(places / data)], "output": "o", "cache": str(places / "cache"), "steps": 8, "batch_size": 4,
             "shards": 2, "workers": 2, **FAMILIES[name], **options}  # fmt: skip
    return TrainConfig.parse(given, environment={})


def samples_of(run):
    course = course_of(run, torch.device("cpu"))
    return [course.read(range(first, first + 4, 2)) for first in (0, 1, 4, 401)]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key, tensor in one.items():
            assert tensor.dtype == other[key].dtype and torch.equal(tensor.nan_to_num(7e6), other[key].nan_to_num(7e6))


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_are_the_same_from_videos_in_memory_and_streamed(places, name):
    data = "sequences" if name == "template" else "archive"
    videos = samples_of(config(places, name, data, stream="never"))
    assert_same(samples_of(config(places, name, f"{data}-packs", stream="always")), videos)
    assert_same(samples_of(config(places, name, f"{data}-packs", stream="never")), videos)


def test_those_of_jpeg_packs_are_the_same_in_memory_and_streamed(places):
    held, streamed = (samples_of(config(places, "windowed", "archive-jpeg", stream=how)) for how in ("never", "always"))
    assert_same(held, streamed)
    exact = samples_of(config(places, "windowed", "archive-packs", stream="always"))
    assert any(not torch.equal(one["pictures"], other["pictures"]) for one, other in zip(held, exact, strict=True))


def test_a_task_reads_the_shards_of_its_places_in_the_plan(places):
    run = config(places, "windowed", "archive-packs", stream="always")
    course = course_of(run, torch.device("cpu"))
    made = list(read_units({"id": np.array([0, 1, 2])}, settings=run.model_dump_json(), first=2 * 2 + 1))
    assert [table["number"].to_pylist() for table in made] == [[2 * 4 + 1], [3 * 4], [3 * 4 + 1]]
    for table, first in zip(made, (9, 12, 13), strict=True):
        assert_same([safetensors.torch.load(table["tensors"][0].as_py())], [course.read(range(first, first + 3, 2))])


def test_data_that_fit_are_held_and_others_streamed(places):
    size = decoded_bytes(str(places / "archive-packs"))
    assert size == 2 * 40 * WH[0] * WH[1] * 3
    for share, how in ((1.01, "never"), (0.99, "always")):
        run = config(places, "windowed", "archive-packs", cache_gb=share * size / 1e9)
        assert settled(run).stream == how
    unprepared = config(places, "windowed", "archive", cache_gb=1e-9)
    assert settled(unprepared).stream == "never"
    with pytest.raises(ConfigError, match=r"only prepared data can be streamed: .*archive'.*data prepare"):
        settled(unprepared.model_copy(update={"stream": "always"}))
    assert settled(config(places, "repair", "archive", cache_gb=1e-9)).stream == "never"


def test_packs_of_another_size_than_the_network_sees_are_refused(places):
    wrong = config(places, "windowed", "archive-packs", network={**SPECKNET, "input_wh": [256, 160]})
    with pytest.raises(ConfigError, match=r"prepared at 128x80, but the network needs 256x160"):
        samples_of(wrong)


def test_batches_that_depend_on_their_order_come_in_it_and_an_error_in_its_turn(monkeypatch):
    asked = []

    def make(step):
        asked.append(step)
        if step == 3:
            raise ConfigError("broken", step)
        return step

    batches = prefetched_in_order(make, range(9))
    assert [next(batches) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ConfigError, match="broken: 3"):
        next(batches)
    assert asked == [0, 1, 2, 3]
    monkeypatch.setattr(prefetch, "START_S", 0.05)
    with pytest.raises(
        StorageError, match=r"the next batch did not arrive: 'after 0.05 s' \(step 0\); make sure that the clu"
    ):
        next(prefetched_in_order(lambda step: time.sleep(1), range(2)))


def test_the_share_that_waited_is_that_of_the_time_since_it_was_asked_last():
    def slow():
        for number in range(4):
            time.sleep(0.3 if number in (0, 1) else 0)
            yield number

    waiting, shares = Waiting(), []
    for _ in waiting.over(slow()):
        time.sleep(0.1)
        shares.append(waiting.share())
    assert shares[0] == 0 and 0.6 < shares[1] < 0.9 and max(shares[2:]) < 0.2

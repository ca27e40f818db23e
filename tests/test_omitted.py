"""What training leaves out of its data and counts, where it is too much, and data that does not come at all."""

import threading
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.test_template_tracking import tiny
from tests.test_training_data import video
from tests.videos import WH, encode

from specktrack.datasets import load_dataset, make_dataset, save_dataset
from specktrack.datasets.dataset import DatasetVideo
from specktrack.errors import ConfigError, StorageError
from specktrack.frames import Trajectory
from specktrack.sampling import SamplingConfig, WindowSampler
from specktrack.schema import VideoRef
from specktrack.storage import open_store, stat
from specktrack.training import prefetch
from specktrack.training.config import TrainConfig, recipe_path
from specktrack.training.decoded import decoded
from specktrack.training.footage import Reading
from specktrack.training.frame_cache import load_videos
from specktrack.training.omitted import Omitted, check, usable
from specktrack.training.prefetch import prefetched
from specktrack.training.shards import shards_of
from specktrack.training.template.pairs import BoxTrack, PairBatches, PairConfig, PairSampler
from specktrack.training.template.tracks import FolderPictures
from specktrack.training.windowed.batches import Batches


def label(xy, wh=None):
    xy = np.array(xy, np.float32)
    n = len(xy)
    more = {} if wh is None else {"wh_px": np.array(wh, np.float32)}
    return Trajectory(np.arange(n), np.arange(n) / 30, xy, np.full(n, np.nan, np.float32), **more)


def test_labels_outside_the_picture_and_without_one_are_counted_apart():
    missing = np.zeros(4, bool)
    missing[1] = True
    nowhere = (np.nan, np.nan)
    rows, left_out = usable(label([(5, 5), (5, 5), (-3, 5), nowhere, (5, 5)]), missing, (64, 48))
    assert rows.frame.tolist() == [0, 3] and left_out == Omitted(5, missing=2, bad=1)


def test_an_object_that_the_edge_cuts_off_is_no_bad_label():
    cut_off, beyond = label([(66, 5)], [(8, 8)]), label([(69, 5)], [(8, 8)])
    assert len(usable(cut_off, np.zeros(1, bool), (64, 48))[0]) == 1
    assert len(usable(beyond, np.zeros(1, bool), (64, 48))[0]) == 0


@pytest.mark.parametrize(("labels", "bad", "fails"), [(200, 2, False), (200, 3, True), (24, 1, False), (24, 2, True)])
def test_more_than_one_in_a_hundred_is_refused(labels, bad, fails):
    parts = [Omitted(labels - 1, bad=bad), Omitted(1)]
    what = rf"{bad} of {labels}: 0 without a picture, {bad} with a label outside"
    with pytest.raises(ConfigError, match=what) if fails else nullcontext():
        check(parts, ["d"])


def dataset(folder, frames, *, label_frames, outside=(), damage=lambda data: data):
    """One rendered video of ``frames`` frames with a label for ``label_frames``, some of them outside the picture."""
    folder.mkdir(exist_ok=True)
    path = encode(folder / "v.mp4", frames=frames, container_options={"movflags": "faststart"})
    path.write_bytes(damage(path.read_bytes()))
    xy = np.tile(np.float32([20, 20]), (label_frames, 1))
    xy[list(outside)] = -500
    ref = stat(str(path))
    rows = label(xy).to_rows(ref.uri)
    card = DatasetVideo(ref=ref, width_px=WH[0], height_px=WH[1], fps=30, frames=frames)
    save_dataset(make_dataset(rows, (card,), name="t", layout="rows", source="here"), open_store(str(folder)))
    return (str(folder),)


def load(uris, tmp_path):
    return load_videos(uris, input_wh=WH, reading=Reading(tmp_path / "cache"))


def test_windows_over_a_bad_label_or_a_missing_frame_are_not_drawn(tmp_path):
    [loaded] = load(dataset(tmp_path, 299, label_frames=300, outside=[40, 41]), tmp_path)
    assert len(loaded.pixels) == 299 and (~loaded.sampling.labelled).nonzero()[0].tolist() == [40, 41]
    sampler = WindowSampler([loaded.sampling], frames_in=4, seed=0, config=SamplingConfig(skip_frames=0))
    assert not {37, 38, 39, 40, 41} & {start for _, start in sampler.windows.tolist()}


@pytest.mark.parametrize("drawn", [False, True])
def test_an_occluded_object_is_absent_or_drawn_where_it_is(tmp_path, drawn):
    ref = stat(str(encode(tmp_path / "v.mp4", frames=4)))
    words = np.array(["clear", "occluded", "blurred", "clear"], object)
    rows = replace(label(np.full((4, 2), 20)), visibility=words).to_rows(ref.uri)
    card = DatasetVideo(ref=ref, width_px=WH[0], height_px=WH[1], fps=30, frames=4)
    save_dataset(make_dataset(rows, (card,), name="t", layout="rows", source="here"), open_store(str(tmp_path)))
    folder = tmp_path / "cache"
    [loaded] = load_videos((str(tmp_path),), input_wh=WH, reading=Reading(folder), draw_occluded=drawn)
    assert np.isnan(loaded.sampling.xy_net[:, 0]).tolist() == [False, not drawn, False, False]
    assert loaded.sampling.labelled.all()


def test_recipes_draw_occluded_objects_where_their_papers_do():
    given = {"data": ["d"], "output": "o", "init": "m"}
    for name, occluded in (("tracknet-v1", "drawn"), ("tracknet-v2", "drawn"), ("tracknet-v4", "drawn"),
                           ("tracknet-v4-finetune", "drawn"), ("wasb", "absent"), ("monotrack", "absent")):  # fmt: skip
        assert TrainConfig.parse(given, yaml_file=recipe_path(name), environment={}).occluded == occluded


def test_many_bad_labels_end_the_run_before_it_begins(tmp_path):
    with pytest.raises(ConfigError, match=r"5 of 300: 0 without a picture, 5 with a label outside.*data check"):
        load(dataset(tmp_path, 300, label_frames=300, outside=range(5)), tmp_path)


def test_a_cut_video_and_one_that_is_none_count_as_missing_frames(tmp_path):
    cut = dataset(tmp_path / "cut", 100, label_frames=100, damage=lambda data: data[: len(data) * 2 // 3])
    with pytest.raises(ConfigError, match=r"of 100: \d\d without a picture, 0 with"):
        load(cut, tmp_path)
    with pytest.raises(ConfigError, match="100 of 100: 100 without a picture"):
        load(dataset(tmp_path / "none", 100, label_frames=100, damage=lambda _: b"no video" * 99), tmp_path)


def test_what_was_missing_is_known_to_the_next_run(tmp_path):
    uris = dataset(tmp_path, 100, label_frames=50, damage=lambda data: data[: len(data) * 2 // 3])
    first, again = (decoded(load_dataset(uris[0]).card.videos[0].ref, tmp_path) for _ in range(2))
    assert 10 < first.missing.sum() < 50 and np.array_equal(first.missing, again.missing)
    assert first.missing[np.flatnonzero(first.missing)[0] :].all()


def folder_track(folder, frames=400, broken=()):
    for frame in range(frames):
        Image.new("RGB", (96, 64), (frame, 0, 0)).save(folder / f"{frame:04d}.png")
        if frame in broken:
            (folder / f"{frame:04d}.png").write_bytes(b"no picture")
    boxes = np.tile([40.0, 30.0, 8.0, 8.0], (frames, 1))
    return BoxTrack("t", FolderPictures(VideoRef(uri=f"file://{folder}/", etag="", size_bytes=0)), boxes)


def pair_batches(track, samples):
    sampler = PairSampler([track], seed=0, config=PairConfig(templates=1, searches=1))
    return PairBatches([track], sampler, tiny().config, most_skipped=samples // 100)


def test_a_picture_that_cannot_be_read_costs_its_sample_alone(tmp_path):
    batches = pair_batches(folder_track(tmp_path, broken=[300]), 400)
    assert batches.batch(range(400)).search_nSCHW.shape[1] == 400 and batches._skipped > 0


def test_many_pictures_that_cannot_be_read_end_the_run(tmp_path):
    with pytest.raises(ConfigError, match=r"too many samples cannot be read: \d \(.*png\); copy the pictures again"):
        pair_batches(folder_track(tmp_path, broken=range(200)), 16).batch(range(16))


def test_a_batch_that_does_not_come_is_an_error_and_holds_up_nothing(monkeypatch):
    never = threading.Event()
    batches = prefetched(lambda step: never.wait() if step == 2 else step, range(9))
    assert [next(batches), next(batches)] == [0, 1]
    monkeypatch.setattr(prefetch, "STALLED_S", 0.01)
    with pytest.raises(StorageError, match=r"the next batch did not arrive: 'after 0.01 s' \(step 2\)"):
        next(batches)  # with the thread still at it
    never.set()


def test_an_error_in_a_thread_comes_out_in_its_turn():
    def make(step):
        if step == 1:
            raise ConfigError("broken", step)
        return step

    batches = prefetched(make, range(3))
    assert next(batches) == 0
    with pytest.raises(ConfigError, match="broken: 1"):
        next(batches)


class Recording(WindowSampler):
    """Remembers what it was asked for."""

    drawn: dict

    def sample(self, number):
        return self.drawn.setdefault(number, super().sample(number))


@pytest.mark.parametrize("worlds", [(4, 2, 4), (1, 4), (2, 1, 2, 4, 1)])
def test_every_epoch_has_every_window_once_whoever_shares_it(worlds):
    """Stopped at arbitrary steps, in the middle of epochs, and gone on with on another number of workers."""
    videos, batch_size, steps = [video(0), video(1)], 8, 40
    draw = np.random.default_rng(len(worlds))
    stops = [*sorted(draw.choice(np.arange(1, steps), len(worlds) - 1, replace=False).tolist()), steps]
    config, seen, step = SamplingConfig(crop_wh=(64, 48)), [], 0
    for world, stop in zip(worlds, stops, strict=True):
        samplers = [Recording([v.sampling for v in videos], frames_in=4, seed=3, config=config) for _ in range(world)]
        for rank, sampler in enumerate(samplers):
            sampler.drawn = {}
            batches = Batches(videos, sampler, batch_size=batch_size, device=torch.device("cpu"))
            for now in range(step, stop):
                for numbers in shards_of(now, batch_size=batch_size, parts=4, rank=rank, workers=world):
                    batches.read(numbers)
        seen += sorted((sample for sampler in samplers for sample in sampler.drawn.values()), key=lambda s: s.number)
        step = stop
    assert [sample.number for sample in seen] == list(range(steps * batch_size))  # none twice, none left out
    windows = [(sample.video, sample.start) for sample in seen]
    epoch = len(samplers[0])
    assert len(seen) > 5 * epoch
    for first in range(0, len(seen) - epoch + 1, epoch):
        assert len(set(windows[first : first + epoch])) == epoch

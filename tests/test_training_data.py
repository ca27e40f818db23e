from dataclasses import replace

import numpy as np
import pytest
import torch

from specktrack.augment import AugmentConfig, pictures
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory, Viewport
from specktrack.sampling import LabelledVideo, SamplingConfig, WindowSampler, motion_cells
from specktrack.schema import VideoRef
from specktrack.training.config import TrainConfig, recipe_path
from specktrack.training.frame_cache import CachedVideo
from specktrack.training.shards import shards_of
from specktrack.training.windowed.batches import Batches
from specktrack.training.windowed.pasting import cut_out

FRAMES, WIDTH, HEIGHT = 30, 160, 96


def video(seed=0, wh=(WIDTH, HEIGHT)):
    """A bright 3x3 dot that flies over a dark, slightly moving ground."""
    width, height = wh
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 20, (FRAMES, height, width, 3), dtype=np.uint8)
    xy = np.stack([20 + 4.0 * np.arange(FRAMES), 20 + 2.0 * np.arange(FRAMES)], axis=1).astype(np.float32)
    for frame, (x, y) in enumerate(xy.astype(int)):
        pixels[frame, y - 1 : y + 2, x - 1 : x + 2] = 255
    xy[5] = np.nan
    pixels[5] = draw.integers(0, 20, pixels[5].shape)
    labelled = LabelledVideo(xy, np.ones(FRAMES, bool), motion_cells(pixels), wh)
    ref = VideoRef(uri=f"file:///v{seed}.mp4", etag="1", size_bytes=1)
    label = Trajectory(np.arange(FRAMES), np.arange(FRAMES) / 30, xy, np.full(FRAMES, np.nan, np.float32))
    return CachedVideo(ref, Viewport(wh, wh), torch.from_numpy(pixels), label, labelled)


def batches(videos, *, shard=0, parts=1, steps=range(4), batch_size=8, config=None):
    config = config or SamplingConfig(crop_wh=(64, 48))
    sampler = WindowSampler([v.sampling for v in videos], frames_in=4, seed=3, config=config)
    made = Batches(videos, sampler, batch_size=batch_size, device=torch.device("cpu"))
    mine = [shards_of(step, batch_size=batch_size, parts=parts)[shard] for step in steps]
    return [made.batch(numbers, made.read(numbers)) for numbers in mine]


def test_labels_stay_on_the_dot_through_crop_zoom_mirror_and_time():
    offsets = []
    for batch in batches([video()], steps=range(8)):
        assert batch.frames_BTCHW.shape == (8, 4, 3, 48, 64) and batch.frames_BTCHW.min() >= 0
        for picture, xy in zip(batch.frames_BTCHW.flatten(0, 1), batch.xy_net.flatten(0, 1), strict=True):
            if torch.isnan(xy).any() or not (4 < xy[0] < 59 and 4 < xy[1] < 43):
                continue
            light = (picture.mean(dim=0) - 0.2).clamp(min=0)
            ys, xs = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
            centre = torch.stack([(light * xs).sum(), (light * ys).sum()]) / light.sum()
            offsets.append(float((centre - xy).norm()))
    assert len(offsets) > 60
    assert np.median(offsets) < 0.15 and max(offsets) < 0.7


def test_absent_frames_have_no_position():
    absent = sum(int(torch.isnan(batch.xy_net).any(dim=-1).sum()) for batch in batches([video()]))
    assert 0 < absent < 4 * 8 * 4


def test_ranks_share_out_the_batch_of_one_worker():
    videos = [video(0), video(1)]
    whole = [b.xy_net for b in batches(videos)]
    for shard in (0, 1):
        for half, xy in zip(batches(videos, shard=shard, parts=2), whole, strict=True):
            np.testing.assert_array_equal(half.xy_net, xy[shard::2])


def test_resuming_is_an_offset_into_the_same_list():
    videos = [video()]
    whole, resumed = batches(videos, steps=range(6)), batches(videos, steps=range(4, 6))
    for one, other in zip(whole[4:], resumed, strict=True):
        assert torch.equal(one.frames_BTCHW, other.frames_BTCHW)
        assert one.generator.initial_seed() == other.generator.initial_seed()


def test_videos_of_different_sizes_and_smaller_than_the_crop_share_a_batch():
    config = SamplingConfig(crop_wh=(128, 96), zoom=(0.5, 1.0))
    [batch] = batches([video(0), video(1, (96, 128))], steps=range(1), config=config)
    assert batch.frames_BTCHW.shape == (8, 4, 3, 96, 128)


def test_every_epoch_is_a_permutation_of_all_windows_and_differs_from_the_last():
    sampler = WindowSampler([video().sampling], frames_in=4, seed=0, config=SamplingConfig(skip_frames=0))
    epochs = [[sampler.sample(e * len(sampler) + i).start for i in range(len(sampler))] for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(FRAMES - 3))
    assert epochs[0] != epochs[1]


def test_windows_over_unlabelled_frames_are_not_drawn():
    whole = video().sampling
    labelled = whole.labelled.copy()
    labelled[10] = False
    holey = LabelledVideo(whole.xy_net, labelled, whole.motion, whole.wh_net)
    sampler = WindowSampler([holey], frames_in=4, seed=0, config=SamplingConfig())
    for number in range(3 * len(sampler)):
        sample = sampler.sample(number)
        assert 10 not in range(sample.start, sample.start + 3 * sample.step + 1)


@pytest.mark.parametrize(("on_object", "on_motion", "nearer"), [(1.0, 0.0, "ball"), (0.0, 1.0, "motion")])
def test_crops_lie_where_they_are_asked_to(on_object, on_motion, nearer):
    still = video()
    motion = np.zeros_like(still.sampling.motion)
    motion[:, 5, 9] = 9.0  # a player far from the flight's beginning
    plain = LabelledVideo(still.sampling.xy_net, still.sampling.labelled, motion, still.sampling.wh_net)
    config = SamplingConfig(crop_wh=(32, 32), zoom=(1.0, 1.0), on_object=on_object, on_motion=on_motion, skip_frames=0)
    sampler = WindowSampler([plain], frames_in=1, seed=0, config=config)
    inside = {"ball": 0, "motion": 0}
    numbers = [n for n in range(len(sampler)) if sampler.sample(n).start < 12 and sampler.sample(n).start != 5]
    for number in numbers:
        sample = sampler.sample(number)
        x0, y0, width, height = sample.crop
        for name, (x, y) in {"ball": plain.xy_net[sample.start], "motion": (152, 88)}.items():
            inside[name] += x0 <= x < x0 + width and y0 <= y < y0 + height
    assert inside[nearer] == len(numbers) and inside["ball" if nearer == "motion" else "motion"] == 0


def blend(frames, xy, how, seed=1):
    return pictures.mix(frames, xy, AugmentConfig(mix=how), seed)


def test_sample_mixup_blends_windows_and_their_background_alike():
    frames = torch.rand(3, 5, 3, 8, 8)  # a background before four frames
    xy = torch.arange(24.0).view(3, 4, 2)
    mixed = blend(frames, xy, "samples")
    others = (mixed.other_xy_net[:, 0, 0] / 8).long()
    assert sorted(others.tolist()) == [0, 1, 2] and torch.equal(mixed.xy_net, xy)
    assert ((mixed.share >= 0.5) & (mixed.share <= 1)).all() and (mixed.share == mixed.share[:, :1]).all()
    share = mixed.share[:, :1, None, None, None]
    torch.testing.assert_close(mixed.frames_BTCHW, share * frames + (1 - share) * frames[others])


def test_frame_mixup_keeps_order_and_blends_neighbours():
    frames = torch.arange(5.0).view(1, 5, 1, 1, 1).expand(2, 5, 3, 4, 4) + 10  # the background is 10
    xy = torch.stack([torch.arange(1.0, 5), torch.zeros(4)], dim=-1).expand(2, 4, 2)
    for seed in range(10):
        mixed = blend(frames, xy, "frames", seed)
        assert (mixed.frames_BTCHW[:, 0] == 10).all()
        values = mixed.frames_BTCHW[:, 1:, 0, 0, 0] - 10
        wanted = mixed.share * mixed.xy_net[..., 0] + (1 - mixed.share) * mixed.other_xy_net[..., 0]
        torch.testing.assert_close(values, wanted)
        assert (values.diff(dim=1) > 0).all()
        assert set((mixed.other_xy_net - mixed.xy_net)[..., 0].unique().tolist()) <= {0.0, 1.0}


def test_every_target_size_has_equal_weight_however_large_the_object_is():
    whole = video().sampling
    sizes = np.geomspace(3, 12, FRAMES).astype(np.float32)
    sizes[::7] = np.nan  # taken for nominal_px
    sized = LabelledVideo(whole.xy_net, whole.labelled, whole.motion, whole.wh_net, sizes)
    config = SamplingConfig(target_px=(4, 16), zoom=(0.1, 10), nominal_px=5, crop_wh=(16, 16), skip_frames=0)
    sampler = WindowSampler([sized], frames_in=1, seed=0, config=config)
    seen = []
    for number in range(40 * len(sampler)):
        sample = sampler.sample(number)
        size = sizes[sample.start] if not np.isnan(sizes[sample.start]) else 5
        seen.append(size * 16 / sample.crop[2])
    shares = np.histogram(np.log(seen), bins=np.log([4, 5.66, 8, 11.3, 16]))[0] / len(seen)
    assert shares.min() > 0.17 and shares.max() < 0.3  # crops are whole pixels, so the rims leak a little


def test_at_cmunets_recipe_sizes_from_10_to_20_px_have_equal_weight():
    options = {"data": ["d"], "output": "o", "sampling.skip_frames": 0}
    config = TrainConfig.parse(options, yaml_file=recipe_path("cmu-net"), environment={}).sampling
    sizes = np.append(np.geomspace(8, 25, 15), np.nan).astype(np.float32)
    nowhere, frames = np.full((16, 2), np.nan, np.float32), np.ones(16, bool)
    sized = LabelledVideo(nowhere, frames, np.ones((16, 67, 120), np.float32), (1920, 1080), sizes)
    sampler = WindowSampler([sized], frames_in=1, seed=0, config=config)
    samples = [sampler.sample(number) for number in range(4000)]
    for of_size in (sizes < 12, sizes > 18, np.isnan(sizes), frames):
        seen = [np.nan_to_num(sizes[s.start], nan=15) * 640 / s.crop[2] for s in samples if of_size[s.start]]
        assert min(seen) > 9.9 and max(seen) < 20.2
        shares = np.histogram(np.log(seen), bins=np.log(np.geomspace(9.9, 20.2, 5)))[0] / len(seen)
        assert shares.min() > 0.25 - 2 / len(seen) ** 0.5 and shares.max() < 0.25 + 2 / len(seen) ** 0.5


def test_sizes_that_the_zoom_cannot_reach_are_refused():
    assert SamplingConfig(target_px=(4, 8), zoom=(0.5, 1.6), nominal_px=8)
    with pytest.raises(ConfigError, match=r"takes magnifications from 0\.5 to 2, beyond zoom \(0\.75, 1\.6\)"):
        TrainConfig.parse({"data": ["d"], "output": "o", "sampling.target_px": [2.5, 10]}, environment={})


def of_dataset(dataset, frames):
    still = np.zeros((frames, 2, 2), np.float32)
    return LabelledVideo(np.zeros((frames, 2), np.float32), np.ones(frames, bool), still, (32, 32), dataset=dataset)


def test_datasets_come_by_their_shares_however_many_windows_each_has():
    videos = [of_dataset(0, 403), of_dataset(1, 13), of_dataset(1, 8)]
    config = SamplingConfig(shares=(1.0, 3.0), skip_frames=0)
    sampler = WindowSampler(videos, frames_in=4, seed=0, config=config)
    drawn = [sampler.sample(number) for number in range(200)]
    assert [sum(videos[sample.video].dataset == 0 for sample in drawn[turn : turn + 100]) for turn in (0, 100)] == [
        25
    ] * 2
    small = [(sample.video, sample.start) for sample in drawn if sample.video > 0]
    assert len(set(small[:15])) == 15 and small[:15] != small[15:30]  # ten windows and five: each once per epoch
    assert sorted(small[:15]) == sorted(small[15:30])


def test_windows_without_shares_are_drawn_as_if_of_one_dataset():
    drawn = [
        [sampler.sample(number) for number in range(40)]
        for second in (0, 1)
        for sampler in [
            WindowSampler([of_dataset(0, 20), of_dataset(second, 20)], frames_in=4, seed=0, config=SamplingConfig())
        ]
    ]
    assert drawn[0] == drawn[1]


def test_a_share_for_each_dataset_and_windows_for_each_share():
    with pytest.raises(ValueError, match=r"sampling.shares has 2 numbers, but data has 1 datasets"):
        TrainConfig.read({"data": ["a"], "output": "b", "network": "specknet", "sampling": {"shares": [1, 1]}})
    with pytest.raises(ConfigError, match="dataset 1 of data"):
        WindowSampler([of_dataset(0, 20)], frames_in=4, seed=0, config=SamplingConfig(shares=(1, 1)))


def test_windows_with_a_decoy_come_by_their_share_and_are_cropped_around_it():
    decoy_net = np.full((40, 2), np.nan, np.float32)
    decoy_net[[9, 30]] = (300, 200), (40, 250)
    plain = LabelledVideo(
        np.full((40, 2), 100, np.float32), np.ones(40, bool), np.zeros((40, 2, 2), np.float32), (512, 288)
    )
    fallen_for = replace(plain, decoy_net=decoy_net)
    settings = {"crop_wh": (64, 48), "zoom": (1, 1), "skip_frames": 0, "on_object": 1, "on_motion": 0}
    config = SamplingConfig(on_decoy=0.4, shares=(1.0, 1.0), **settings)
    sampler = WindowSampler([fallen_for, replace(plain, dataset=1)], frames_in=4, seed=0, config=config)
    around = {"object": 0, "decoy": 0}
    for sample in (sampler.sample(number) for number in range(400)):
        place = {7: (300, 200), 28: (40, 250)}.get(sample.start, (100, 100)) if sample.video == 0 else (100, 100)
        x0, y0, width, height = sample.crop
        on_object = x0 <= 100 <= x0 + width and y0 <= 100 <= y0 + height
        assert on_object or (x0 <= place[0] <= x0 + width and y0 <= place[1] <= y0 + height)
        around["object" if on_object else "decoy"] += 1
    assert 0.15 < around["decoy"] / 400 < 0.25  # 0.4 of one dataset, which is half of all; the other has no decoy


def test_without_decoys_the_same_samples_are_drawn_as_ever():
    videos = [of_dataset(0, 20), of_dataset(1, 20)]
    drawn = [
        [sampler.sample(number) for number in range(40)]
        for on_decoy in (0, 0.5)
        for sampler in [WindowSampler(videos, frames_in=4, seed=0, config=SamplingConfig(on_decoy=on_decoy))]
    ]
    assert drawn[0] == drawn[1]


def test_a_still_window_shows_one_frame_all_along():
    [batch] = batches([video()], steps=range(1), config=SamplingConfig(crop_wh=(64, 48), still=1.0))
    assert (batch.frames_BTCHW == batch.frames_BTCHW[:, :1]).all()
    assert torch.equal(batch.xy_net.nan_to_num(-1), batch.xy_net[:, :1].nan_to_num(-1).expand_as(batch.xy_net))


SHOWN = 90


def without_object(seed=9, wh=(320, 192)):
    """A ground of another shade, on which nothing is labelled."""
    pixels = np.full((FRAMES, wh[1], wh[0], 3), SHOWN, np.uint8)
    nothing = np.full((FRAMES, 2), np.nan, np.float32)
    labelled = LabelledVideo(nothing, np.ones(FRAMES, bool), motion_cells(pixels), wh)
    ref = VideoRef(uri=f"file:///v{seed}.mp4", etag="1", size_bytes=1)
    label = Trajectory(np.arange(FRAMES), np.arange(FRAMES) / 30, nothing, np.full(FRAMES, np.nan, np.float32))
    return CachedVideo(ref, Viewport(wh, wh), torch.from_numpy(pixels), label, labelled)


def slow_dot(wh=(320, 192)):
    """A bright 5x5 dot on a dark ground, far from the borders, that moves 6 px per frame."""
    width, height = wh
    pixels = np.full((FRAMES, height, width, 3), 40, np.uint8)
    xy = np.stack([60 + 6.0 * np.arange(FRAMES), 60 + 2.0 * np.arange(FRAMES)], axis=1).astype(np.float32)
    for frame, (x, y) in enumerate(xy.astype(int)):
        pixels[frame, y - 2 : y + 3, x - 2 : x + 3] = 240
    labelled = LabelledVideo(xy, np.ones(FRAMES, bool), motion_cells(pixels), wh)
    ref = VideoRef(uri="file:///dot.mp4", etag="1", size_bytes=1)
    label = Trajectory(np.arange(FRAMES), np.arange(FRAMES) / 30, xy, np.full(FRAMES, np.nan, np.float32))
    return CachedVideo(ref, Viewport(wh, wh), torch.from_numpy(pixels), label, labelled)


def test_an_object_is_pasted_where_its_label_says_and_its_scene_stays_behind():
    config = SamplingConfig(
        crop_wh=(128, 96), zoom=(1, 1), on_object=0, on_motion=0, skip_frames=0, mirror=0, paste=1.0
    )
    pasted = moving = 0
    for batch in batches([slow_dot(), without_object()], steps=range(6), config=config):
        for window, xy_T in zip(batch.frames_BTCHW, batch.xy_net, strict=True):
            if abs(window.median() - SHOWN / 255) > 0.01:
                continue  # the dot's own scene
            moving += int((xy_T[0] - xy_T[-1]).abs().nan_to_num().sum() > 0)
            for picture, xy in zip(window, xy_T, strict=True):
                light = (picture.mean(dim=0) - SHOWN / 255).abs()
                if torch.isnan(xy).any() or not (6 < xy[0] < 121 and 6 < xy[1] < 89):
                    continue
                pasted += 1
                ys, xs = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
                near = ((xs - xy[0]).abs() < 6) & ((ys - xy[1]).abs() < 6)
                centre = torch.stack([(light * near * xs).sum(), (light * near * ys).sum()]) / (light * near).sum()
                assert torch.linalg.vector_norm(centre - xy) < 0.6
                assert light[~near].max() < 0.01  # nothing of the dark scene came along
    assert pasted > 30 and moving > 3


def test_nothing_is_cut_out_where_nothing_can_be_told_from_the_scene():
    assert cut_out(without_object(), np.arange(8)) is None
    dot = slow_dot()
    assert cut_out(dot, np.arange(8)) is not None
    flat = replace(dot, pixels=dot.pixels * 0 + 40)  # labels as before, and nothing to see
    assert cut_out(flat, np.arange(8)) is None

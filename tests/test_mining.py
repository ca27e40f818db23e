import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from specktrack import heatmap
from specktrack.augment.pictures import Blend
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory, Viewport
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.zoo import build, network_config
from specktrack.sampling import LabelledVideo, SamplingConfig, WindowSampler, motion_cells
from specktrack.schema import VideoRef
from specktrack.training.config import TrainConfig
from specktrack.training.frame_cache import CachedVideo
from specktrack.training.windowed.batches import Batches
from specktrack.training.windowed.config import MiningConfig
from specktrack.training.windowed.learning import judged
from specktrack.training.windowed.mining import _decisive, across_gaps, decoys, hard_frames, with_hard_frames

FRAMES, SIZE = 12, (64, 48)
CONFIG = network_config({"name": "wasb", "frames_in": 1, "input_wh": SIZE, "widths": [4, 4, 4, 4]})


class Brightest(HeatmapNetwork):
    """Sees the object where the picture is bright."""

    def __init__(self):
        super().__init__(CONFIG)
        self.gain = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, frames_BTCHW):
        return self.gain * (frames_BTCHW.mean(dim=2) - 0.5)


@pytest.fixture(scope="module")
def model():
    return Model(Brightest().eval(), ModelCard(name="brightest", network=CONFIG))


@pytest.fixture(scope="module")
def video():
    """A spot that moves 4 px per frame; labels 3 and 7 lie beside it, 5 lies far off, frame 9 has none."""
    pixels = np.zeros((FRAMES, SIZE[1], SIZE[0], 3), np.uint8)
    spot = np.stack([6.0 + 4 * np.arange(FRAMES), np.full(FRAMES, 20.0)], axis=1).astype(np.float32)
    for n, (x, y) in enumerate(spot.astype(int)):
        pixels[n, y - 1 : y + 2, x - 1 : x + 2] = 255
    xy = spot.copy()
    xy[3] += (0, 9)
    xy[5] += (0, 11)
    xy[7] += (0, -9)
    xy[9] = np.nan
    viewport = Viewport((2 * SIZE[0], 2 * SIZE[1]), SIZE)  # 9 network px are 18 source px
    label = Trajectory(np.arange(FRAMES), np.arange(FRAMES) / 30, viewport.to_source(xy).astype(np.float32),
                       np.ones(FRAMES, np.float32))  # fmt: skip
    sampling = LabelledVideo(xy_net=xy, labelled=np.ones(FRAMES, bool), motion=motion_cells(pixels), wh_net=SIZE,
                             size_net=np.full(FRAMES, 3, np.float32))  # fmt: skip
    ref = VideoRef(uri="file:///spot.mp4", etag="1", size_bytes=1)
    return CachedVideo(ref, viewport, torch.from_numpy(pixels), label, sampling)


def test_a_real_valued_label_is_sure_in_the_middle_and_c_min_at_its_radius():
    label = heatmap.real_valued(torch.tensor([20.3, 10.0]), (24, 40), radius_px=2.5, smallest=0.7)
    assert label[10, 20] == label[10, 22] == 1 and label[11, 22] == pytest.approx(0.7 * np.exp(1 - 5 / 2.5**2))
    assert label[12, 22] == pytest.approx(0.7 * np.exp(1 - 8 / 2.5**2)) and label[10, 23] == 0
    assert int((label > 0).sum()) == 25  # the disk's 21 and its four corners
    at_radius = heatmap.real_valued(torch.tensor([20.0, 10.0]), (24, 40), radius_px=2.0, smallest=0.7)
    assert at_radius[10, 22] == pytest.approx(0.7)
    assert heatmap.real_valued(torch.full((2,), torch.nan), (8, 8), radius_px=2.5, smallest=0.7).sum() == 0


def test_frames_in_which_the_model_sees_it_just_beside_its_label_are_hard(video, model):
    assert np.flatnonzero(hard_frames(video, model, torch.device("cpu"))).tolist() == [3, 7]


def test_what_was_found_is_kept_for_a_resumed_run_until_labels_or_size_change(video, model, tmp_path):
    cpu = torch.device("cpu")
    (first,) = with_hard_frames([video], model, cpu, tmp_path)
    (kept,) = tmp_path.iterdir()
    np.save(kept, ~first.hard)
    (second,) = with_hard_frames([video], model, cpu, tmp_path)
    assert (second.hard == ~first.hard).all()
    corrected = video.label.xy_px.copy()
    corrected[3] -= (0, 18)
    for other, hard in (
        (replace(video, label=replace(video.label, xy_px=corrected)), [7]),
        (replace(video, label=video.label[np.arange(FRAMES) != 7]), [3]),
    ):
        (found,) = with_hard_frames([other], model, cpu, tmp_path)
        assert np.flatnonzero(found.hard).tolist() == hard
    smaller = replace(video, viewport=Viewport(video.viewport.source_wh_px, (32, 24)))
    assert len({_decisive(each, model) for each in (video, smaller)}) == 2


def test_what_the_model_takes_for_the_object_far_from_it_is_a_decoy(video, model):
    labels = video.sampling.xy_net.copy()
    labels[2] += (0, 25)  # the spot is something else there
    labels[4:6] = np.nan  # a gap, in which the object flies on
    labels[9:] = np.nan  # and the end, in which it is gone
    xy_px = video.viewport.to_source(labels).astype(np.float32)
    label = Trajectory(video.label.frame, video.label.pts_s, xy_px, np.isfinite(labels[:, 0]).astype(np.float32))
    spotted = replace(video, label=label, sampling=replace(video.sampling, xy_net=labels))
    found = decoys(spotted, model, torch.device("cpu"))
    assert np.flatnonzero(np.isfinite(found[:, 0])).tolist() == [2, 9, 10, 11]
    np.testing.assert_allclose(found[2], [14, 20], atol=0.1)


def test_short_gaps_are_filled_along_a_line_and_long_ones_are_not():
    frame = np.array([0, 1, 3, 4, 20, 21])
    xy = np.array([[np.nan] * 2, [1, 2], [np.nan] * 2, [4, 8], [np.nan] * 2, [21, 42]], float)
    filled = across_gaps(xy, frame)
    np.testing.assert_allclose(filled, [[np.nan] * 2, [1, 2], [3, 6], [4, 8], [np.nan] * 2, [21, 42]])


def test_only_networks_of_windows_can_mine(video):
    config = network_config("inpaintnet")
    other = Model(build(config), ModelCard(name="other", network=config))
    with pytest.raises(ConfigError, match="a repair network has no windows to mine: 'other'"):
        hard_frames(video, other, torch.device("cpu"))


def test_a_batch_says_which_of_its_frames_are_hard(video, model, tmp_path):
    videos = with_hard_frames([video], model, torch.device("cpu"), tmp_path)
    settings = SamplingConfig(crop_wh=SIZE, zoom=(1, 1))
    sampler = WindowSampler([video.sampling], frames_in=4, seed=0, config=settings)
    batches = Batches(videos, sampler, batch_size=4, device=torch.device("cpu"))
    seen = False
    for step in range(9):
        numbers = range(4 * step, 4 * step + 4)
        batch = batches.batch(numbers, batches.read(numbers))
        for sample, hard in zip((sampler.sample(4 * step + n) for n in range(4)), batch.hard, strict=True):
            frames = np.arange(sample.start, sample.start + 3 * sample.step + 1, sample.step)
            frames = frames[::-1] if sample.reversed_time else frames
            assert hard.tolist() == [int(frame) in (3, 7) for frame in frames]
            seen |= bool(hard.any())
    assert seen


def test_only_hard_frames_have_softer_labels():
    torch.manual_seed(0)
    network = build(CONFIG)
    frames, xy, mining = torch.rand(2, 1, 3, 48, 64), torch.full((2, 1, 2), 20.0), MiningConfig(model="x")
    blend = Blend(frames, xy, xy, torch.ones(2, 1))
    none, both = torch.zeros(2, 1, dtype=torch.bool), torch.ones(2, 1, dtype=torch.bool)
    unmined = judged(network, blend, hard=none)["loss"]
    assert judged(network, blend, hard=none, mining=mining)["loss"] == unmined
    softer = heatmap.real_valued(xy, (48, 64), radius_px=2.5, smallest=0.7)
    wanted = heatmap.LOSSES["quality-focal"](network(frames), softer)
    torch.testing.assert_close(judged(network, blend, hard=both, mining=mining)["loss"], wanted)
    assert wanted != unmined


def test_decoys_name_the_model_and_the_share_of_windows():
    given = {"data": ["d"], "output": "o"}
    assert TrainConfig.parse({**given, "decoys": "m", "sampling.on_decoy": 0.1}).models[-1].endswith("m")
    for alone in ({"decoys": "m"}, {"sampling.on_decoy": 0.1}):
        with pytest.raises(ConfigError, match="given together"):
            TrainConfig.parse({**given, **alone})


def test_mining_wants_disks_and_unmixed_windows():
    given = {"data": ["d"], "output": "o", "mining": {"model": "m"}}
    assert TrainConfig.parse({**given, "network": "wasb"}).mining.smallest == 0.7
    for other in ({"network": "specknet"}, {"network": "wasb", "augment.mix": "samples"}):
        with pytest.raises(ConfigError, match=r"mining needs augment\.mix=none"):
            TrainConfig.parse({**given, **other})
    assert json.loads(TrainConfig.parse({**given, "network": "wasb"}).model_dump_json())["mining"]["model"] == str(
        Path("m").absolute()
    )

"""Following from a prompt: decisions, memory and boxes by hand; sessions on tiny random networks."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from specktrack.datasets.benchmarks import read_benchmark
from specktrack.errors import ConfigError
from specktrack.evaluate.trackers import run_sequence
from specktrack.frames import FrameBatch, Viewport, concat
from specktrack.metrics.boxes import BOX_PROTOCOLS, box_iou, score_sequence
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.template.dimp import Dimp
from specktrack.models.template.entries import BackboneConfig, OnlineConfig
from specktrack.models.template.iou_net import IoUNet
from specktrack.models.zoo import build, network_config
from specktrack.schema import Box, Prompt
from specktrack.storage import frame_names
from specktrack.tracking.following import Following
from specktrack.tracking.template.boxes import _variations, refine_box
from specktrack.tracking.template.head import Look, TemplateHead, grown, kept_inside
from specktrack.tracking.template.localise import Peak, State, highest_peaks, localise
from specktrack.tracking.template.region import Region
from specktrack.tracking.template.samples import SampleMemory, _blurred, prompt_samples, variations
from specktrack.tracking.tracker import Parts, make_tracker, open_session, tracker_of

ONLINE = OnlineConfig()


def tiny(name="super-dimp", **values):
    """An untrained network of a few thousand weights, and few online steps."""
    newton = name == "prdimp50"
    backbone = BackboneConfig(
        block="basic", depths=(1, 1, 1), widths=(8, 8, 16), stem_pool=False, classes=0, frozen_stages=0
    )
    target = network_config(name).target_model.model_copy(update={"features": 16})
    config = network_config({
        "name": name, "input_wh": [64, 64], "search_area": 4.0, "backbone": backbone.model_dump(),
        "target_model": target.model_dump(), "box_head": {"prediction": [8, 8], "hidden": [8, 8]},
        "online": {
            "first_iterations": 6, "memory": 24, "box_steps": 2, "dropouts": 1,
            "softmax": newton, "lost_below": 0.0 if newton else 0.05,
        },
        **values,
    })  # fmt: skip
    torch.manual_seed(0)
    return Model(build(config).eval(), ModelCard(name="random", network=config))


class TestLocalise:
    def scores(self, *peaks):
        scores = np.zeros((23, 23), np.float32)
        for x, y, score in peaks:
            scores[y, x] = score
        return scores

    def at(self, *peaks, previous=(11.0, 11.0)):
        return localise(self.scores(*peaks), target_wh_cells=(3.7, 3.7), previous_xy_cells=previous, config=ONLINE)

    def test_one_peak_is_the_target(self):
        peak = self.at((14, 9, 0.9))
        assert (peak.state, peak.xy_cells, peak.score) == (State.NORMAL, (14, 9), pytest.approx(0.9))

    def test_a_low_peak_is_none(self):
        assert self.at((14, 9, 0.2)).state is State.LOST

    def test_a_second_peak_within_the_neighbourhood_does_not_count(self):
        # 2.2 x 3.7 = 8.14 cells: 4.07 to either side
        assert self.at((11, 11, 0.9), (15, 11, 0.85)).state is State.NORMAL
        assert self.at((11, 11, 0.9), (16, 11, 0.6)).state is State.DISTRACTOR

    def test_of_two_equal_peaks_the_near_one_is_the_target(self):
        near_first, far_first = self.at((11, 11, 0.9), (22, 11, 0.8)), self.at((22, 11, 0.9), (11, 11, 0.8))
        assert (near_first.state, near_first.xy_cells) == (State.DISTRACTOR, (11, 11))
        assert (far_first.state, far_first.xy_cells) == (State.DISTRACTOR, (11, 11))
        assert far_first.score == pytest.approx(0.8)

    def test_two_near_peaks_leave_it_uncertain(self):
        assert self.at((11, 11, 0.9), (18, 11, 0.8)).state is State.UNCERTAIN

    def test_a_weak_second_peak_below_the_floor_is_no_distractor(self):
        assert self.at((11, 11, 0.3), (20, 11, 0.2)).state is State.NORMAL

    def test_a_peak_between_cells_is_the_top_of_a_parabola(self):
        ys, xs = np.mgrid[:23, :23]
        scores = (0.9 - 0.01 * ((xs - 14.3) ** 2 + 2 * (ys - 8.8) ** 2)).astype(np.float32)
        config = ONLINE.model_copy(update={"between_cells": True})
        peak = localise(scores, target_wh_cells=(9, 9), previous_xy_cells=(11, 11), config=config)
        assert peak.xy_cells == pytest.approx((14.3, 8.8), abs=1e-3)
        at_the_edge = localise(
            self.scores((22, 0, 0.9)), target_wh_cells=(9, 9), previous_xy_cells=(11, 11), config=config
        )
        assert at_the_edge.xy_cells == (22, 0)


def test_the_highest_peaks_are_no_neighbours():
    scores = np.zeros((23, 23), np.float32)
    for x, y, score in ((11, 11, 0.9), (12, 11, 0.8), (18, 3, 0.6), (3, 20, 0.1)):
        scores[y, x] = score
    found = highest_peaks(scores, 4, target_wh_cells=(3.7, 3.7), config=ONLINE)
    assert [(peak.xy_cells, peak.state) for peak in found] == [
        ((11, 11), State.NORMAL), ((18, 3), State.NORMAL), ((3, 20), State.LOST)
    ]  # fmt: skip


class TestMemory:
    def memory(self, capacity=20):
        return SampleMemory(torch.zeros(15, 1, 1, 1), torch.ones(15, 4), OnlineConfig(memory=capacity))

    def add(self, memory, rate=0.01, value=1.0):
        memory.add(torch.full((1, 1, 1), value), torch.ones(4), learning_rate=rate)

    def test_a_new_sample_weighs_the_learning_rate_and_the_next_a_little_more(self):
        memory = self.memory()
        self.add(memory)
        assert float(memory.weights[15]) == pytest.approx(0.01 / (1 / 0.99 + 0.01))  # 0.01 beside the grown others
        self.add(memory)
        assert float(memory.weights[16] / memory.weights[15]) == pytest.approx(1 / 0.99)
        assert float(memory.weights.sum()) == pytest.approx(1)

    def test_the_prompts_samples_keep_a_quarter(self):
        memory = self.memory(capacity=50)
        for _ in range(400):
            self.add(memory, rate=0.02)
        assert memory.weights[:15].tolist() == pytest.approx([0.25 / 15] * 15, rel=1e-4)
        assert float(memory.weights.sum()) == pytest.approx(1, rel=2e-3)

    def test_the_least_important_sample_makes_room_and_the_prompts_stay(self):
        memory = self.memory(capacity=18)
        for value in range(1, 6):
            self.add(memory, value=float(value))
        features, _, weights = memory.samples()
        assert features.flatten().tolist() == [0.0] * 15 + [4.0, 5.0, 3.0] and len(weights) == 18


def test_the_prompt_gives_15_samples_with_its_box_shifted_alike():
    ways = variations(ONLINE, 64, torch.Generator().manual_seed(0))
    assert len(ways) + ONLINE.dropouts == 15 and ways[1].shift_xy == (19, 19) and ways[2].shift_xy == (-19, 19)
    box = Box(cx_px=40, cy_px=40, w_px=6, h_px=6)
    frame = np.zeros((80, 80, 3), np.uint8)
    frame[37:44, 37:44] = 255
    region = Region.around((40, 40), 64, (80, 80), 128, border="replicate", most_shrink=1.0)
    pictures, boxes = prompt_samples(region.cut(frame), region, box, ways)
    assert pictures.shape == (13, 3, 64, 64)
    ys, xs = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    for picture, (x, y, w, h) in zip(pictures[:, 0], boxes, strict=True):
        centroid = ((picture * xs).sum() / picture.sum(), (picture * ys).sum() / picture.sum())
        assert [float(c) for c in centroid] == pytest.approx([float(x + w / 2), float(y + h / 2)], abs=0.15)


@pytest.mark.parametrize("sigma_xy", [(3, 1), (1, 3), (2, 2)])
def test_a_blur_is_a_gaussian_cut_off_at_two_sigma(sigma_xy):
    point = torch.zeros(3, 31, 31)
    point[:, 15, 15] = 1
    lines = []
    for sigma in sigma_xy:
        x = np.arange(31) - 15.0
        line = np.where(np.abs(x) <= 2 * sigma, np.exp(-(x**2) / (2 * sigma**2)), 0)
        lines.append(line / line.sum())
    np.testing.assert_allclose(_blurred(point, sigma_xy)[0], np.outer(lines[1], lines[0]), atol=1e-6)


def test_of_a_weak_box_head_only_a_share_of_the_growth_is_believed():
    coarse, refined = torch.tensor([10.0, 20.0, 8.0, 4.0]), torch.tensor([0.0, 0.0, 32.0, 16.0])
    found = grown(coarse, refined, 0.5)
    assert found.tolist() == pytest.approx([6.0, 18.0, 16.0, 8.0])  # half of the logarithm of four, and the same centre
    assert grown(coarse, coarse + 5, 0.1)[2] / grown(coarse, coarse + 5, 0.1)[3] == pytest.approx(2)


class Slope:
    """A box head whose score rises with the centre's x and with the area's logarithm."""

    def __call__(self, search, modulation, boxes):
        return boxes[..., 0] + boxes[..., 2] / 2 + boxes[..., 2].log() + boxes[..., 3].log()


class TestBoxes:
    BOX = torch.tensor([20.0, 30.0, 8.0, 4.0])

    def refined(self, head=None, box=BOX, **values):
        config = ONLINE.model_copy(update={"boxes": 1, "box_steps": 1, "box_step": 0.01, **values})
        return refine_box(head or Slope(), None, None, box, config, torch.Generator().manual_seed(0))

    def test_relative_boxes_climb_by_centre_and_logarithm_of_the_size(self):
        """d/d(cx / w0) = w0 = 8 moves the centre by 0.01 * 8 * 8; d/d(log w) = 1 grows a side by exp(0.01)."""
        x, y, w, h = self.refined(box_space="relative").tolist()
        assert (w, h) == pytest.approx((8 * np.exp(0.01), 4 * np.exp(0.01)), rel=1e-5)
        assert (x + w / 2, y + h / 2) == pytest.approx((24 + 0.64, 32), rel=1e-5)

    def test_px_climb_by_corner_and_size_each_step_as_long_as_the_side(self):
        """d/dx = 1, d/dw = 1/2 + 1/8, d/dh = 1/4; the steps are times w, h, w, h."""
        found = self.refined(box_space="pixel").tolist()
        assert found == pytest.approx([20 + 0.08, 30, 8 + 0.01 * 0.625 * 8, 4 + 0.01 * 0.25 * 4], rel=1e-5)

    def test_boxes_that_grow_too_long_are_dropped(self):
        long = torch.tensor([20.0, 30.0, 12.0, 2.0])
        assert self.refined(box=long, box_steps=0) is None and self.refined(box=long.roll(1), box_steps=0) is not None
        assert self.refined(box=long, box_steps=0, most_aspect=6.1) is not None
        tall = torch.tensor([20.0, 30.0, 2.0, 12.0])
        assert self.refined(box=tall, box_steps=0) is None

    def test_the_best_three_make_the_result(self):
        seen = []

        def head(search, modulation, boxes):
            seen.append(boxes[0])
            return -(boxes[..., 0] - 19.5).abs()

        found = self.refined(head, boxes=10, box_steps=0)
        boxes = seen[-1]
        assert torch.equal(boxes[0], self.BOX) and len(boxes) == 10
        nearest = (boxes[:, 0] - 19.5).abs().argsort()[:3]
        torch.testing.assert_close(found, boxes[nearest].mean(dim=0))

    def test_variations_keep_to_shares_of_the_target_and_sides_stay_above_a_third_of_the_shorter(self):
        config, draw = ONLINE.model_copy(update={"boxes": 4001}), torch.Generator().manual_seed(0)
        boxes = _variations(torch.tensor([0.0, 0, 40, 2.5]), config, draw)[1:]  # 10 px by the root of its area
        off = (boxes[:, :2] + boxes[:, 2:] / 2 - torch.tensor([20, 1.25])).abs().amax(dim=0)
        assert off.tolist() == pytest.approx([0.5, 0.5], abs=0.01)  # +- half of a tenth
        low, high = boxes[:, 2:].amin(dim=0), boxes[:, 2:].amax(dim=0)
        assert (*low.tolist(), *high.tolist()) == pytest.approx((37.5, 2.5 / 3, 42.5, 5), abs=0.01)

    def test_no_side_falls_below_one_px(self):
        found = self.refined(box=torch.tensor([20.0, 30.0, 0.5, 0.25]), box_steps=0)
        assert found.tolist() == [20, 30, 1, 1]


class TestPlacing:
    """The target in the middle of a search region: 64 network px for 40 of the source, cells of 8."""

    REGION = Region.around((30, 36), 40, (96, 72), 64, border="replicate", most_shrink=1.0)

    def head(self, **values):
        return TemplateHead(tiny(**values).network, PROMPT.box, device=torch.device("cpu"))

    @pytest.mark.parametrize(("filter_size", "cell"), [(4, 4.0), (3, 3.5)])
    def test_a_score_s_cell_is_where_the_filter_s_middle_lies(self, filter_size, cell):
        target = {"features": 16, "filter_size": filter_size}
        head = self.head(target_model=target)
        x, y, w, h = head._coarse(Peak(State.NORMAL, (cell, cell + 1), 1.0), self.REGION).tolist()
        assert (x + w / 2, y + h / 2, w, h) == pytest.approx((32, 40, 16, 12.8))
        box = self.REGION.box_px(x, y, w, h)
        assert (box.cx_px, box.cy_px, box.w_px, box.h_px) == pytest.approx((30.5, 41.5, 10, 8))  # of an even side

    def test_prdimps_scores_are_a_density_over_cells(self):
        head = self.head(name="prdimp50")
        scores = torch.zeros(9, 9)
        scores[4, 4] = 5.0
        head._target_model = SimpleNamespace(score=lambda _: scores)
        look = head.look(np.zeros((H, W, 3), np.uint8), (30, 36))
        assert head.peak(look).score == pytest.approx(math.exp(5) / (math.exp(5) + 80))

    def test_the_box_head_learns_the_prompt_as_it_is(self, video, monkeypatch):
        told, modulation, features = {}, IoUNet.modulation, Dimp.features
        seen = []

        def noted(head, levels, boxes):
            told.update(levels=levels, boxes=boxes)
            return modulation(head, levels, boxes)

        monkeypatch.setattr(IoUNet, "modulation", noted)
        monkeypatch.setattr(Dimp, "features", lambda network, *rest: seen.append(features(network, *rest)) or seen[-1])
        rows(tiny(), video[:4], 4)
        ((fine, _),) = seen  # of the prompt's samples: the first is the prompt
        assert torch.equal(told["levels"][0], fine[:1]) and len(fine) == 13
        assert (told["boxes"][0, :2] + told["boxes"][0, 2:] / 2).tolist() == pytest.approx([32, 32], abs=1)

    @pytest.mark.parametrize(("box", "kept"), [
        ((50, 40, 10, 8), (50, 40, 10, 8)),
        ((-20, 90, 10, 8), (-3, 73.4, 10, 8)),  # a fifth of it stays inside
        ((50, 40, 200, 0.2), (50, 40, 96, 1)),
    ])  # fmt: skip
    def test_some_of_a_box_stays_in_the_frame(self, box, kept):
        found = kept_inside(Box(**dict(zip(("cx_px", "cy_px", "w_px", "h_px"), box, strict=True))), (96, 72))
        assert (found.cx_px, found.cy_px, found.w_px, found.h_px) == pytest.approx(kept)


class Notes:
    """A memory and a target model that write down what they are told."""

    def __init__(self):
        self.told = []

    def add(self, features, box, *, learning_rate):
        self.told.append(("add", learning_rate))

    def samples(self):
        return ()

    def learn(self, *, iterations):
        self.told.append(("learn", iterations))


class TestLearning:
    def told(self, state, frames_since):
        head = TemplateHead(tiny().network, PROMPT.box, device=torch.device("cpu"))
        head._online, notes = ONLINE, Notes()
        head._memory = head._target_model = notes
        region = Region.around((30, 36), 40, (W, H), 64, border="replicate", most_shrink=1.0)
        none = torch.zeros(16, 16, 16)
        head.learn(Look(region, (none, none), none, np.zeros((17, 17))), state, frames_since)
        return notes.told

    def test_every_20_frames_two_steps_are_learned_and_every_frame_is_remembered(self):
        told = [self.told(State.NORMAL, frame) for frame in range(1, 41)]
        assert [frame for frame, each in enumerate(told, start=1) if ("learn", 2) in each] == [20, 40]
        assert all(each[0] == ("add", 0.01) for each in told)

    def test_a_distractor_is_learned_at_once_in_one_step_and_weighs_twice(self):
        assert self.told(State.DISTRACTOR, 7) == self.told(State.DISTRACTOR, 20) == [("add", 0.02), ("learn", 1)]

    def test_nothing_is_learned_of_an_uncertain_place(self):
        assert self.told(State.UNCERTAIN, 20) == []

    def test_a_lost_target_leaves_the_memory_and_the_box_alone(self, video):
        model = tiny(online={"lost_below": 100.0, "memory": 24, "first_iterations": 2, "box_steps": 0})
        session = open_session(model, prompt=PROMPT, device="cpu")
        at = Viewport((W, H), (W, H))
        session.push(FrameBatch(video[:4], np.arange(4), np.arange(4) / 30, at))
        before, box = session.head._memory.weights.clone(), session.head.box
        later = session.push(FrameBatch(video[4:], np.arange(4, FRAMES), np.arange(4, FRAMES) / 30, at))
        assert session.lost and not later.present.any() and session.head.box == box
        assert torch.equal(session.head._memory.weights, before)

    def test_the_pointing_game_is_told_the_best_point_of_a_lost_target_too_and_nothing_else_changes(self, video):
        model = tiny(online={"lost_below": 100.0, "memory": 24, "first_iterations": 30, "box_steps": 0, "dropouts": 1})
        judged = {
            name: make_tracker(Following(), parts=Parts(model), best_point=BOX_PROTOCOLS[name].best_point).open(PROMPT)
            for name in ("pointing", "otb")
        }
        at = Viewport((W, H), (W, H))
        batch = FrameBatch(video[:6], np.arange(6), np.arange(6) / 30, at)
        found = {name: session.push(batch) for name, session in judged.items()}
        assert found["otb"].present.tolist() == [False] * 3 + [True] + [False] * 2
        assert found["pointing"].present.tolist() == [False] * 3 + [True] * 3
        np.testing.assert_array_equal(found["pointing"].score, found["otb"].score)
        truth = np.stack([19 + 2 * np.arange(6) + 4.5, np.full(6, 35.5)], axis=1)
        assert np.abs(found["pointing"].xy_px - truth)[3:].max() < 7  # a cell is 4.4 px
        assert judged["pointing"].lost and judged["pointing"].head.box == judged["otb"].head.box == PROMPT.box
        assert torch.equal(judged["pointing"].head._memory.weights, judged["otb"].head._memory.weights)


FRAMES, W, H = 30, 96, 72
PROMPT = Prompt(frame=3, box=Box(cx_px=30, cy_px=36, w_px=10, h_px=8))


@pytest.fixture(scope="module")
def video():
    """A textured thing on noise, two px to the right in each frame."""
    draw = np.random.default_rng(0)
    ground, thing = draw.integers(60, 120, (H, W, 3)), draw.integers(0, 255, (8, 10, 3))
    frames = np.tile(ground, (FRAMES, 1, 1, 1))
    for t in range(FRAMES):
        x = 19 + 2 * t
        frames[t, 32:40, x : x + 10] = thing
    return frames.astype(np.uint8)


def rows(model, video, batch_frames, prompt=PROMPT):
    session = open_session(model, prompt=prompt, device="cpu")
    parts = []
    for i in range(0, len(video), batch_frames):
        frame = np.arange(i, min(len(video), i + batch_frames))
        parts.append(session.push(FrameBatch(video[frame], frame, frame / 30, Viewport((W, H), (W, H)))))
    return concat([*parts, session.finish()])


@pytest.mark.parametrize("name", ["super-dimp", "prdimp50", "atom"])
def test_rows_do_not_depend_on_batches(name, video):
    model = tiny(name)
    whole = rows(model, video, FRAMES)
    assert whole.frame.tolist() == list(range(FRAMES)) and not whole.present[:3].any()
    assert (whole.provenance == "tracked").all() and whole.score[3] == 1
    np.testing.assert_allclose(whole.wh_px[3], (10, 8))
    again = rows(model, video, 7)
    np.testing.assert_array_equal(again.xy_px, whole.xy_px)
    np.testing.assert_array_equal(again.wh_px, whole.wh_px)


@pytest.mark.parametrize("name", ["super-dimp", "atom"])
def test_a_target_model_follows_even_on_untrained_features(name, video):
    online = {"first_iterations": 30, "memory": 24, "box_steps": 0, "lost_below": 0.05, "dropouts": 1}
    track = rows(tiny(name, online=online), video, FRAMES)
    truth = 19 + 2 * np.arange(FRAMES) + 4.5
    assert track.present[3:].all() and np.abs(track.xy_px[3:, 0] - truth[3:]).max() < 7  # a cell is 4.4 px
    assert np.abs(track.xy_px[3:, 1] - 35.5).max() < 7 and (track.wh_px[3:] == (10, 8)).all()


def test_a_session_without_a_prompt_or_with_an_impossible_one_says_so(video):
    model = tiny()
    with pytest.raises(ConfigError, match=r"needs a prompt: 'random'; give a frame and a box"):
        open_session(model, device="cpu")
    outside = Prompt(frame=0, box=Box(cx_px=500, cy_px=10, w_px=5, h_px=5))
    with pytest.raises(ConfigError, match=r"lies outside the frame: .*frame 0 of 96x72"):
        rows(model, video[:1], 1, outside)
    with pytest.raises(ConfigError, match=r"larger than the frame.*96x72"):
        rows(model, video[:1], 1, Prompt(frame=0, box=Box(cx_px=20, cy_px=10, w_px=97, h_px=5)))
    with pytest.raises(ConfigError, match=r"the video ends before the prompt's frame: 40"):
        rows(model, video[:2], 2, Prompt(frame=40, box=PROMPT.box))
    with pytest.raises(ConfigError, match=r"takes one prompt, as published.*give it a --finder, or use speckdimp"):
        open_session(model, prompt=[PROMPT, PROMPT.model_copy(update={"object": 1})], device="cpu")


def test_a_template_tracker_sees_source_px_and_needs_all_frames_since_its_prompt():
    tracker = tracker_of(tiny(), device="cpu")
    assert tracker.viewport((1920, 1080)) == Viewport((1920, 1080), (1920, 1080))
    assert tracker.lead is None and tracker.stride == 1 and tracker.config.first_iterations == 6


def shrunk(sequence, times, folder):
    """A sequence of OTB with blocks of pixels averaged, so that its target is tiny."""
    if times == 1:
        return sequence
    for name in frame_names(sequence.frames_uri)[: len(sequence.label_xywh)]:
        picture = Image.open(Path(sequence.frames_uri.removeprefix("file://")) / name).convert("RGB")
        picture.reduce(times).save((folder / name).with_suffix(".png"))
    label = sequence.label_xywh / times
    label[:, :2] -= sequence.origin_px / times
    return replace(sequence, label_xywh=label, frames_uri=f"{folder.as_uri()}/", origin_px=0)


@pytest.mark.real
@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_shipped_weights_follow_real_sequences_to_the_last_frame(real_data, tmp_path, times):
    tracker = tracker_of("speckdimp", device="cpu")
    for original in read_benchmark(str(real_data / "tracking" / "otb")).sequences:
        (tmp_path / original.name).mkdir()
        sequence = shrunk(original, times, tmp_path / original.name)
        found = run_sequence(tracker, sequence)
        scores = score_sequence(found, sequence.label_xywh, BOX_PROTOCOLS["otb"])
        assert box_iou(found[-1:], sequence.label_xywh[-1:])[0] > 0.3
        assert scores.lost < 0.05 and scores.success.mean() > 0.6

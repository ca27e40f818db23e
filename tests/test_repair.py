import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.repair.entries import InpaintNetConfig
from specktrack.models.zoo import build
from specktrack.tracking.repair import (
    Ballistic,
    BallisticConfig,
    Gap,
    Inpainting,
    RepairedSession,
    ensemble,
    gaps,
    hidden_gaps,
    make_repair,
)
from specktrack.tracking.tracker import tracker_of

WH = (1280, 720)
NAN = float("nan")


def trajectory(xy, first=0):
    xy = np.asarray(xy, np.float32)
    frame = np.arange(first, first + len(xy))
    return Trajectory(frame, frame / 30, xy, np.where(np.isnan(xy[:, 0]), 0.1, 0.9).astype(np.float32))


def heights(*y, first=0):
    """A trajectory at these heights; None is absent."""
    return trajectory([(NAN, NAN) if v is None else (100, v) for v in y], first)


def inpainting(**options):
    torch.manual_seed(0)
    config = InpaintNetConfig()
    return Inpainting(Model(build(config), ModelCard(name="random", network=config)), **options)


INPAINTING = inpainting(max_gap=5)
REPAIRS = [Ballistic(), Ballistic(BallisticConfig(max_gap=3, context=2)), INPAINTING]


def test_gaps_of_a_trajectory():
    present = np.array([0, 1, 1, 0, 0, 1, 0], bool)
    assert gaps(present) == [Gap(0, 1), Gap(3, 5), Gap(6, 7)]
    assert gaps(np.ones(3, bool)) == [] and gaps(np.zeros(2, bool)) == [Gap(0, 2)]


@pytest.mark.parametrize(("rows", "expected"), [
    (heights(90, 90, None, None, 90), [Gap(2, 4)]),  # low on both sides: hidden
    (heights(90, 20, None, None, 90), []),  # left through the top edge
    (heights(90, 90, None, None, 20), []),  # came back through it
    (heights(None, None, 90, 90), [Gap(0, 2)]),  # from the first frame on: its end decides
    (heights(None, None, 20, 90), []),
    (heights(None, None, 90, 90, first=7), []),  # not the video's first frame: what was before is not known
    (heights(90, None, 90), []),  # at the second frame the official code does not look
    (heights(90, None, 90, first=7), [Gap(1, 2)]),
    (heights(90, 90, None), []),  # to the end of the video
    (heights(90, 75, None, 75, 90), []),  # exactly 30 px of 288
    (heights(90, 76, None, 76, None, 20, None, 90, None, 90), [Gap(2, 3), Gap(8, 9)]),
])  # fmt: skip
def test_gaps_are_repaired_where_the_object_was_hidden_and_not_above_the_picture(rows, expected):
    assert hidden_gaps(rows, margin_px=30 * 720 / 288) == expected


def test_the_ensemble_weighs_windows_by_a_triangle_and_the_ends_alike():
    says = {start: np.full((4, 2), 0.1 * (start + 2), np.float32) for start in range(6)}
    for start in says:
        says[start] += 0.01 * np.arange(4)[:, None]
    mask = np.zeros(9, bool)
    mask[[1, 4, 8]] = True
    result = ensemble(lambda starts: np.stack([says[s] for s in starts.tolist()]), mask, 4)
    # frame 1: windows 0 and 1, plain mean; frame 4: windows 1..4 at places 3..0, weights 1 2 2 1; frame 8: window 5
    assert result[1, 0] == pytest.approx((0.21 + 0.30) / 2)
    assert result[4, 0] == pytest.approx((1 * 0.33 + 2 * 0.42 + 2 * 0.51 + 1 * 0.60) / 6)
    assert result[8, 0] == pytest.approx(0.73)
    assert (result[~mask] == 0).all()


def test_positions_near_the_corner_mean_that_there_is_nothing():
    mask = np.array([False, True, False])
    near = ensemble(lambda starts: np.full((len(starts), 3, 2), 0.08, np.float32), mask, 3)
    far = ensemble(lambda starts: np.full((len(starts), 3, 2), (0.08, 0.09), np.float32), mask, 3)
    assert (near == 0).all() and far[1] == pytest.approx((0.08, 0.09))


def test_a_flight_under_gravity_is_filled_exactly():
    t = np.arange(20)
    truth = np.stack([100 + 12 * t, 300 - 15 * t + 0.9 * t**2], axis=1)
    xy = truth.astype(np.float32)
    xy[8:12] = NAN
    rows = Ballistic().fill(trajectory(xy), WH)
    np.testing.assert_allclose(rows.xy_px, truth, atol=1e-3)
    assert (rows.provenance[8:12] == "interpolated").all() and (rows.visibility[8:12] == "occluded").all()
    assert (rows.gap == np.where((t >= 8) & (t < 12), 4, 0)).all()


def test_an_object_at_rest_stays_at_rest():
    xy = np.full((9, 2), 200.0)
    xy[3:6] = NAN
    np.testing.assert_allclose(Ballistic().fill(trajectory(xy), WH).xy_px, 200)


def test_long_gaps_and_both_ends_stay():
    xy = np.full((30, 2), 200.0)
    xy[[0, 29]] = NAN
    xy[5:14] = NAN
    rows = Ballistic(BallisticConfig(max_gap=8)).fill(trajectory(xy), WH)
    assert (rows.present == ~np.isnan(xy[:, 0])).all()


@st.composite
def trajectories(draw):
    n = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**31))
    noise = np.random.default_rng(seed)
    xy = noise.uniform((0, 0), WH, (n, 2))
    xy[noise.random(n) < draw(st.floats(0, 1))] = NAN
    return trajectory(xy, first=draw(st.integers(0, 3)))


@pytest.mark.parametrize("repair", REPAIRS, ids=["ballistic", "short", "inpaintnet"])
@settings(max_examples=40, deadline=None)
@given(rows=trajectories())
def test_detections_are_never_touched_and_filled_rows_say_so(repair, rows):
    repaired = repair.fill(rows, WH)
    seen = rows.present
    for name in ("frame", "pts_s", "score"):
        np.testing.assert_array_equal(getattr(repaired, name), getattr(rows, name))
    for name in ("xy_px", "visibility", "provenance", "gap", "wh_px"):
        np.testing.assert_array_equal(getattr(repaired, name)[seen], getattr(rows, name)[seen])
    filled = repaired.present & ~seen
    assert set(repaired.provenance[filled]) <= {"interpolated", "inpainted"}
    assert ((repaired.gap > 0) == filled).all() and (repaired.gap <= repair.config.max_gap).all()
    for gap in gaps(seen):
        inside = repaired.gap[gap.start : gap.stop]
        assert set(inside.tolist()) <= {0, len(gap)}


class Replayed:
    """A session that knows its rows and hands them out some frames late."""

    def __init__(self, rows, late=3):
        self._rows, self._late, self._given, self._end = rows, late, None, 0

    def push(self, batch):
        self._given = int(batch.frame[0]) if self._given is None else self._given
        self._end = int(batch.frame[-1]) + 1
        return self._take(max(self._given, self._end - self._late))

    def finish(self):
        return self._take(self._end)

    def _take(self, stop):
        start, self._given = self._given, stop
        return self._rows.between(start, stop)


def through_session(rows, repair, start, stop, batch_frames):
    session, viewport = RepairedSession(Replayed(rows), repair), Viewport(WH, (16, 16))
    parts = []
    for i in range(start, stop, batch_frames):
        frame = np.arange(i, min(stop, i + batch_frames))
        parts.append(session.push(FrameBatch(np.zeros((len(frame), 16, 16, 3), np.uint8), frame, frame / 30, viewport)))
    return concat([*parts, session.finish()])


@pytest.mark.parametrize("repair", REPAIRS, ids=["ballistic", "short", "inpaintnet"])
@pytest.mark.parametrize("seed", range(4))
def test_repaired_rows_do_not_depend_on_batches_nor_on_cuts(repair, seed):
    draw = np.random.default_rng(seed)
    xy = np.cumsum(draw.normal(0, 6, (120, 2)), axis=0) + np.array([640, 360])
    for start in draw.integers(0, 120, 14):
        xy[start : start + draw.integers(1, 9)] = NAN
    rows = trajectory(xy)
    whole = repair.fill(rows, WH)
    assert (whole.present & ~rows.present).any()

    def same(one, other):
        for name in ("frame", "xy_px", "provenance", "gap"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    for batch_frames in (1, 7, 120):
        same(through_session(rows, repair, 0, 120, batch_frames), whole)
    lead = repair.reach
    for start, stop in [(0, 40), (40, 80), (80, 120), (55, 61)]:
        clip = through_session(rows, repair, max(0, start - lead), min(120, stop + lead), 16).between(start, stop)
        same(clip, whole.between(start, stop))


@pytest.mark.parametrize("repair", [Ballistic(BallisticConfig(max_gap=None)), inpainting(max_gap=None)])
def test_without_a_limit_the_longest_gap_is_filled_once_the_video_has_ended(repair):
    xy = np.full((90, 2), 300.0)
    xy[20:60] = NAN
    rows = trajectory(xy)
    whole = repair.fill(rows, WH)
    assert whole.present.all() and (whole.gap[20:60] == 40).all() and repair.reach is None
    session = RepairedSession(Replayed(rows), repair)
    pixels = np.zeros((90, 16, 16, 3), np.uint8)
    assert len(session.push(FrameBatch(pixels, rows.frame, rows.pts_s, Viewport(WH, (16, 16))))) == 0
    np.testing.assert_array_equal(session.finish().xy_px, whole.xy_px)


def test_the_limit_is_a_setting_of_how_a_video_is_followed():
    assert make_repair("ballistic", gap=3).config.max_gap == 3 and make_repair("inpaintnet").config.max_gap == 16
    tracker = tracker_of("specknet", repair="inpaintnet", repair_gap=0)
    assert tracker.lead is None and tracker.config.repair.max_gap is None
    with pytest.raises(ConfigError, match="repair_gap goes with repair: name what fills gaps"):
        tracker_of("specknet", repair_gap=8)


def test_a_session_without_frames_has_no_rows():
    assert len(RepairedSession(Replayed(trajectory(np.zeros((0, 2)))), Ballistic()).finish()) == 0


def test_repairs_by_name():
    assert make_repair("none") is None and isinstance(make_repair("ballistic"), Ballistic)
    with pytest.raises(ConfigError, match="this model does not repair trajectories: 'specknet'"):
        make_repair("specknet")
    with pytest.raises(ConfigError, match="a repair network cannot follow an object on its own"):
        tracker_of(INPAINTING_MODEL)


INPAINTING_MODEL = Model(build(InpaintNetConfig()), ModelCard(name="random", network=InpaintNetConfig()))

import numpy as np
import pytest

from specktrack.evaluate.conditions import by_condition, conditions
from specktrack.evaluate.joined import Joined
from specktrack.metrics.points import PointCounts
from specktrack.metrics.protocols import PAPER_WH, Tolerance

TOLERANCE = Tolerance("4 px at 512x288", 4, PAPER_WH)


def video(label_px, *, pred_px=None, frame=None, visibility="clear", wh_px=None, fps=30.0):
    label_px = np.array(label_px, float)
    n = len(label_px)
    words = np.where(np.isnan(label_px).any(axis=1), "absent", visibility).astype(object)
    return Joined(
        "v", np.arange(n) if frame is None else np.array(frame), label_px,
        label_px if pred_px is None else np.array(pred_px, float), np.ones(n), np.zeros((n, 0, 2)), 0, 0, (1024, 576),
        words, np.full((n, 2), np.nan) if wh_px is None else np.array(wh_px, float),
        fps,
    )  # fmt: skip


def where(name, *args, **options):
    [mask] = [mask for key, mask in conditions(video(*args, **options)).items() if key.startswith(name)]
    return mask.tolist()


GONE = (np.nan, np.nan)


def test_speed_is_the_mean_step_to_the_labelled_neighbours_at_512x288():
    path = [(0, 9), (4, 9), (8, 9), (24, 9), (48, 9)]  # steps of 2, 2, 8 and 12 px at 512x288
    assert where("slow", path) == [True, True, False, False, False]
    assert where("medium", path) == [False, False, True, False, False]
    assert where("fast", path) == [False, False, False, True, True]


def test_a_jump_over_unlabelled_frames_is_no_speed():
    assert where("fast", [(0, 9), (900, 9)], frame=[0, 7]) == [False, False]
    assert where("slow", [(0, 9), (900, 9)], frame=[0, 7]) == [False, False]


def test_halves_of_the_court_hold_every_present_frame_once():
    path = [(5, 100), (5, 287), (5, 288), GONE]
    assert where("upper", path) == [True, True, False, False]
    assert where("lower", path) == [False, False, True, False]


def test_gaps_are_told_apart_by_their_length_and_their_rims_are_named():
    path = [(5, 5)] * 4 + [GONE] * 2 + [(5, 5)] * 4 + [GONE] * 9
    short = [False] * 4 + [True] * 2 + [False] * 13
    assert where("absent, up to", path) == short
    assert where("absent, 8", path) == [False] * 10 + [True] * 9
    assert where("within 2", path) == [False] * 2 + [True] * 2 + [False] * 2 + [True] * 4 + [False] * 9


def test_a_gap_ends_where_labels_end():
    path = [(5, 5), GONE, GONE, GONE]
    assert where("absent, 8", path, frame=[0, 1, 2, 30]) == [False] * 4


@pytest.mark.parametrize(("word", "name"), [("blurred", "labelled blurred"), ("occluded", "labelled occluded")])
def test_visibility_is_the_labels(word, name):
    assert where(name, [(1, 1), GONE], visibility=word) == [True, False]


def test_sizes_are_measured_at_512x288_where_labels_have_them():
    path, sizes = [(1, 1)] * 4, [(4, 4), (12, 12), (32, 32), GONE]
    assert where("tiny", path, wh_px=sizes) == [True, False, False, False]
    assert where("small", path, wh_px=sizes) == [False, True, False, False]
    assert where("larger", path, wh_px=sizes) == [False, False, True, False]


def test_counts_add_up_over_videos_and_empty_conditions_are_left_out():
    hit, miss = video([(10, 10), (14, 10)]), video([(10, 10), (14, 10)], pred_px=[GONE, (90, 10)])
    counts = by_condition([hit, miss], TOLERANCE)
    assert counts["slow (< 3 px/frame)"] == PointCounts(tp=2, fp1=1, fn=1)
    assert set(counts) == {"in play (all but those at rest)", "slow (< 3 px/frame)", "upper half (far court)"}


@pytest.mark.parametrize(("fps", "reach"), [(30.0, 8), (60.0, 15)])
def test_rest_is_told_by_the_time_around_a_label(fps, reach):
    path = [(100 + 40 * i, 100) for i in range(30)] + [(1300, 100.5)] * 40
    rest = np.array(where("at rest", path, fps=fps))
    assert not rest[: 30 + reach].any() and rest[30 + reach + 1 :].all()
    assert where("in play", path, fps=fps) == (~rest).tolist()


def test_nothing_rests_where_labels_do_not_say_so():
    assert where("at rest", [(100, 100)] * 5 + [GONE] * 20) == [False] * 25
    assert not any(where("at rest", [(100, 100), (100, 100)], frame=[0, 500]))
    assert all(where("at rest", [(100 + i % 2, 100) for i in range(40)]))

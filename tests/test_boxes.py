"""Box trackers: each benchmark's counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.boxes import path_of_boxes, shifted

from specktrack.metrics.boxes import (
    BOX_PROTOCOLS,
    box_iou,
    changes_scale,
    is_tiny,
    moves_fast,
    score_sequence,
    size_buckets,
)

OTB, LASOT, GOT, UAV, LATOT = (BOX_PROTOCOLS[name] for name in ("otb", "lasot", "got10k", "uav", "latot-all"))
POINTING = BOX_PROTOCOLS["pointing"]


@pytest.mark.parametrize("name", BOX_PROTOCOLS)
def test_a_perfect_tracker_scores_20_of_21(name: str) -> None:
    """Success asks for more than the threshold, so nothing reaches 1.0; GOT-10k takes 101 thresholds."""
    boxes = path_of_boxes(side=7.3)
    scores = score_sequence(boxes, boxes, BOX_PROTOCOLS[name])
    assert scores.success.mean() == pytest.approx(100 / 101 if name == "got10k" else 20 / 21)
    assert (scores.precision.mean(), scores.normalised.mean(), scores.overlap) == pytest.approx((1, 1, 1))
    assert scores.lost == 0


def test_overlap_is_strict_and_errors_are_not() -> None:
    label = np.array([[10, 10, 10, 10], [10, 10, 10, 10]], float)
    half = score_sequence(np.array([[10, 10, 10, 10], [10, 10, 10, 5]], float), label, OTB)
    assert half.success[9] == 1.0
    assert half.success[10] == 0.5  # IoU 0.5 is not more than 0.5
    three = score_sequence(shifted(label, 3), label, OTB)
    assert list(three.precision[2:4]) == [0.5, 1.0]
    assert list(three.normalised[29:31]) == [0.5, 1.0]


def test_the_first_frame_is_given() -> None:
    label = path_of_boxes(4)
    lost = shifted(label, 1000)
    for protocol in (OTB, LASOT, LATOT, UAV):
        assert score_sequence(lost, label, protocol).success[0] == 0.25
    assert score_sequence(lost, label, GOT).success[0] == 0.0  # not counted at all
    assert score_sequence(lost, label, GOT).frames == 3


def test_what_a_frame_without_a_label_is() -> None:
    """Frame 2 of 4 has no box; a perfect tracker in the others."""
    label = path_of_boxes(4)
    label[2] = 0
    predicted = path_of_boxes(4)
    otb, lasot = score_sequence(predicted, label, OTB), score_sequence(predicted, label, LASOT)
    assert (otb.success[0], otb.precision[50], otb.normalised[0]) == (0.75, 0.75, 1.0)
    assert (lasot.success[0], lasot.precision[0], lasot.normalised[0]) == (0.75, 1.0, 1.0)
    label[2] = np.nan
    uav = score_sequence(predicted, label, UAV)
    assert (uav.frames, uav.success[0], uav.precision[0], uav.normalised[0]) == (3, 1, 1, 1)


def test_what_a_frame_with_a_hidden_target_is() -> None:
    boxes, absent = path_of_boxes(4), np.array([False, False, True, False])
    scores = {name: score_sequence(boxes, boxes, rule, absent=absent) for name, rule in BOX_PROTOCOLS.items()}
    assert scores["otb"].success[0] == 1.0
    assert (scores["lasot"].success[0], scores["lasot"].precision[50], scores["lasot"].frames) == (0.75, 0.75, 4)
    assert (scores["got10k"].success[0], scores["got10k"].frames) == (1.0, 2)
    unlabelled = boxes * [[1], [1], [0], [1]]
    assert score_sequence(boxes, unlabelled, LASOT, absent=absent).precision[50] == 0.75  # hidden comes first


def test_lost_frames_are_those_that_show_the_target() -> None:
    """Of five frames two show nothing; of the other three one is missed."""
    label, absent = path_of_boxes(5), np.array([False, False, True, False, False])
    label[3] = np.nan
    missed = label.copy()
    missed[1, 0] += 500
    for name, rule in BOX_PROTOCOLS.items():
        assert score_sequence(path_of_boxes(5), label, rule, absent=absent).lost == 0, name
        wanted = 1 / 2 if rule.pooled else 1 / 3
        assert score_sequence(missed, label, rule, absent=absent).lost == pytest.approx(wanted), name


def test_a_label_that_touches_zero_is_none_to_the_matlab_toolkits() -> None:
    label = path_of_boxes(4)
    label[1, 0] = 0
    assert score_sequence(label, label, OTB).success[0] == 1.0
    lasot = score_sequence(label, label, LASOT)
    assert (lasot.success[0], lasot.precision[0]) == (0.75, 1.0)


def test_predictions_that_are_no_box() -> None:
    label = path_of_boxes(4, step=0)
    predicted = label.copy()
    predicted[1] = np.nan
    predicted[2, 2] = 0
    held = score_sequence(predicted, label, OTB)
    assert (held.held, held.success[19]) == (2, 1.0)  # the box before stands for them
    assert score_sequence(predicted, label, UAV).success[0] == 0.5


def test_longer_results_are_cut_and_shorter_ones_miss() -> None:
    label = path_of_boxes(4)
    assert score_sequence(path_of_boxes(9), label, OTB).success[0] == 1.0
    short = score_sequence(label[:3], label, OTB)
    assert (short.success[0], short.precision[50], short.missing) == (0.75, 0.75, 1)


def test_got10k_cuts_boxes_at_the_picture() -> None:
    label = np.array([[90, 10, 10, 10]] * 3, float)
    wide = label + np.array([0, 0, 40, 0])
    assert score_sequence(wide, label, GOT).overlap == pytest.approx(0.2)
    assert score_sequence(wide, label, GOT, wh_px=(100, 50)).overlap == pytest.approx(1.0)


def test_pointing_asks_whether_the_centre_lies_in_the_box() -> None:
    label = np.concatenate([path_of_boxes(3, side=4), path_of_boxes(2, side=20)])
    predicted = label + np.array([[0, 0, 0, 0], [2, 0, 0, 0], [2.1, 0, 0, 0], [9, 9, 0, 0], [0, 11, 0, 0]])
    scores = score_sequence(predicted, label, POINTING)
    found = {name: tuple(pair) for name, pair in zip(size_buckets(), scores.pointing, strict=True)}
    assert found["< 8 px"] == (1, 2)
    assert found["16-22 px"] == (1, 2)
    assert scores.pointing[:, 1].sum() == 4  # the first frame was given


@given(st.lists(st.tuples(*[st.floats(1, 50)] * 4), min_size=1, max_size=5), st.floats(-5, 5))
def test_overlap_is_symmetric_and_in_range(boxes: list[tuple[float, ...]], dx: float) -> None:
    one = np.array(boxes)
    other = shifted(one, dx)
    assert np.allclose(box_iou(one, other), box_iou(other, one))
    assert ((box_iou(one, other) >= 0) & (box_iou(one, other) <= 1)).all()
    assert np.allclose(box_iou(one, one), 1)


def test_tiny_fast_and_changing() -> None:
    small = path_of_boxes(side=21.9)
    assert is_tiny(small, (1280, 720))
    assert not is_tiny(small, (200, 200))  # more than 1 % of the picture
    assert not is_tiny(path_of_boxes(side=22), (1280, 720))
    assert moves_fast(path_of_boxes(side=10, step=10.1))
    assert not moves_fast(path_of_boxes(side=10, step=10))
    growing = path_of_boxes(70)
    growing[:, 2] *= np.linspace(1, 4, 70)
    assert changes_scale(growing)
    assert not changes_scale(growing[:30])
    assert changes_scale(growing[:30], fps=10) is False
    assert changes_scale(growing[:60:3], fps=10)
    assert changes_scale(growing[::-1])  # shrinking
    flat = path_of_boxes(side=16, step=9)
    flat[:, 3] = 4.0  # 8 px by the root of its area
    assert moves_fast(flat) and not moves_fast(flat * [7.9 / 9, 1, 1, 1])

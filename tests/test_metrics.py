"""The five counts, checked by hand and against the rows that the TrackNetV2 paper prints."""

import numpy as np
import pytest

from specktrack.metrics.points import (
    PointCounts,
    average_precision,
    classify_points,
    count_points,
    error_summary,
    heatmap_truth,
    point_errors,
)

ABSENT = (np.nan, np.nan)


def points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, np.float32).reshape(-1, 2)


def test_one_frame_of_each_kind() -> None:
    label = points((10, 10), (10, 10), ABSENT, (10, 10), ABSENT)
    pred = points((13, 14), (14, 14), (5, 5), ABSENT, ABSENT)
    assert classify_points(pred, label, tolerance=5).tolist() == ["tp", "fp1", "fp2", "fn", "tn"]
    assert count_points(pred, label, tolerance=5) == PointCounts(tp=1, tn=1, fp1=1, fp2=1, fn=1)


def test_a_distance_equal_to_the_tolerance_is_a_hit() -> None:
    label, pred = points((0, 0)), points((4, 0))
    assert count_points(pred, label, tolerance=4).tp == 1
    assert count_points(pred, label, tolerance=np.nextafter(4, 0)).fp1 == 1


def test_scale_maps_source_px_to_the_size_that_counts() -> None:
    label, pred = points((100, 100)), points((109, 100))
    assert count_points(pred, label, tolerance=4).fp1 == 1
    assert count_points(pred, label, tolerance=4, scale=(512 / 1280, 288 / 720)).tp == 1
    assert point_errors(pred, label, scale=(0.4, 2.0)) == pytest.approx([3.6])


def test_x_and_y_are_scaled_apart() -> None:
    label, pred = points((0, 0)), points((3, 4))
    assert point_errors(pred, label, scale=(2, 0.5))[0] == pytest.approx(np.hypot(6, 2))


def test_half_a_position_is_no_position() -> None:
    assert count_points(points((1, np.nan)), points((1, 1)), tolerance=4) == PointCounts(fn=1)


@pytest.mark.parametrize(
    ("counts", "percent"),
    [
        (PointCounts(tp=29129, tn=4264, fp1=468, fp2=358, fn=4973), (85.2, 97.2, 85.4)),  # 3 frames in, 3 out
        (PointCounts(tp=9447, tn=1514, fp1=751, fp2=218, fn=1134), (83.9, 90.7, 89.3)),  # 3 frames in, 1 out
    ],
)
def test_rows_of_the_tracknet_v2_paper(counts: PointCounts, percent: tuple[float, float, float]) -> None:
    """The paper truncates the second row's recall, 89.28, to 89.2."""
    ratios = (counts.accuracy, counts.precision, counts.recall)
    assert tuple(round(100 * ratio, 1) for ratio in ratios) == percent


def test_counts_add_up() -> None:
    total = PointCounts(1, 2, 3, 4, 5) + PointCounts(10, 20, 30, 40, 50)
    assert total == PointCounts(11, 22, 33, 44, 55)
    assert total.total == 165


def test_f1_is_the_harmonic_mean() -> None:
    counts = PointCounts(tp=6, fp1=1, fp2=1, fn=6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.5 / 1.25)


def test_nothing_counted_gives_zeros_not_an_error() -> None:
    empty = count_points(points(), points(), tolerance=4)
    assert empty.as_dict() == dict.fromkeys(["tp", "tn", "fp1", "fp2", "fn", "total"], 0) | dict.fromkeys(
        ["f1", "precision", "recall", "accuracy"], 0.0
    )


def test_errors_exist_only_where_both_positions_do() -> None:
    errors = point_errors(points((3, 4), ABSENT, (1, 1)), points((0, 0), (1, 1), ABSENT))
    assert errors[0] == pytest.approx(5)
    assert np.isnan(errors[1:]).all()
    assert error_summary(errors) == {"p50": 5.0, "p90": 5.0, "p99": 5.0, "mean": 5.0}
    assert error_summary(errors[1:]) == dict.fromkeys(["p50", "p90", "p99", "mean"])


def test_the_truth_of_a_label_heatmap_is_its_truncated_centre() -> None:
    labels = points((101, 99.9), (1279, 360), ABSENT, (2, 1), (2, 3))
    truth = heatmap_truth(labels, scale=(0.4, 0.4), wh=(512, 288))
    np.testing.assert_array_equal(truth[0], (40, 39))
    # At the right rim the disk is cut to x = 509..511: the box's middle is int(509 + 3 / 2) = 510.
    np.testing.assert_array_equal(truth[1], (510, 144))
    assert np.isnan(truth[2:4]).all(), "(0, 0) in whole px is how the programs write that there is none"
    np.testing.assert_array_equal(truth[4], (1, 2))


def test_a_disk_that_is_cut_off_moves_the_truth_and_one_outside_has_none() -> None:
    truth = heatmap_truth(points((1, 0), (1, 10), (-2, 10), (-3, 10), (13, 10)), scale=(1, 1), wh=(12, 20))
    # (1, 0): x 0..3, y 0..2 -> int(0 + 4 / 2) = 2, 1.  (1, 10): x 0..3 -> 2.  (-2, 10): only x = 0, y 9..11.
    np.testing.assert_array_equal(truth[:3], [(2, 1), (2, 10), (0, 10)])
    assert np.isnan(truth[3]).all()
    np.testing.assert_array_equal(truth[4], (11, 10))


def test_average_precision_by_hand() -> None:
    score, hit = np.array([0.2, 0.9, 0.5, 0.7]), np.array([True, True, True, False])
    # Order 0.9 hit, 0.7 miss, 0.5 hit, 0.2 hit: precision 1, 2/3, 3/4 where hits are reached.
    assert average_precision(score, hit, positives=4) == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)
    assert average_precision(score, hit, positives=0) == 0.0
    assert average_precision(np.zeros(0), np.zeros(0, bool), positives=3) == 0.0

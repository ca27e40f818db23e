"""Rows that are sure enough to be learned from."""

import numpy as np
import pytest

from specktrack.frames import Trajectory
from specktrack.tracking.confirming import Confirming, confirmed, off_flight

WH_PX = (512, 288)


def flight(n=20):
    """A throw under gravity, seen clearly in every frame."""
    t = np.arange(n)
    xy = np.stack([20 + 9.0 * t, 200 - 14.0 * t + 0.6 * t**2], axis=1).astype(np.float32)
    return Trajectory(t, t / 30, xy, np.full(n, 0.9, np.float32))


def changed(rows, *, xy=None, score=None):
    new_xy, new_score = rows.xy_px.copy(), rows.score.copy()
    for frame, value in (xy or {}).items():
        new_xy[frame] = value
    for frame, value in (score or {}).items():
        new_score[frame] = value
    return Trajectory(rows.frame, rows.pts_s, new_xy, new_score)


def sure(one, other, wh_px=WH_PX):
    return confirmed(one, other, wh_px, Confirming()).frame.tolist()


GONE = (np.nan, np.nan)


def test_a_flight_that_both_passes_see_becomes_labels():
    rows = flight()
    labels = confirmed(rows, rows, WH_PX, Confirming())
    assert labels.frame.tolist() == list(range(2, 18))  # its ends have no neighbours that would confirm them
    assert set(labels.provenance) == {"labelled"} and np.isnan(labels.score).all()
    np.testing.assert_array_equal(labels.xy_px, rows.xy_px[2:18])


@pytest.mark.parametrize("other", [
    {"xy": {9: (400.0, 20.0)}},
    {"xy": {9: GONE}, "score": {9: 0.05}},
    {"score": {9: 0.5}},
])  # fmt: skip
def test_what_one_pass_alone_sees_clearly_is_in_doubt(other):
    assert 9 not in sure(flight(), changed(flight(), **other))


def test_a_jump_that_both_passes_see_is_in_doubt_and_so_are_its_neighbours():
    jumped = changed(flight(), xy={9: (150.0, 250.0)})
    assert not {7, 8, 9, 10, 11} & set(sure(jumped, jumped)) and {4, 5, 14} <= set(sure(jumped, jumped))


def test_a_hit_is_in_doubt():
    rows = flight()
    back = rows.xy_px.copy()
    back[10:] = back[9] - 3 * (rows.xy_px[10:] - rows.xy_px[9])
    hit = Trajectory(rows.frame, rows.pts_s, back, rows.score)
    assert not {9, 10} & set(sure(hit, hit))


def test_absence_is_sure_only_where_nothing_is_faintly_seen():
    gone = changed(flight(), xy={5: GONE, 6: GONE}, score={5: 0.1, 6: 0.2})
    found = confirmed(gone, gone, WH_PX, Confirming())
    assert 5 in found.frame and 6 not in found.frame
    assert found.visibility[found.frame.tolist().index(5)] == "absent"


def test_distances_are_those_of_512x288():
    rows = flight()
    large = Trajectory(rows.frame, rows.pts_s, rows.xy_px * 4, rows.score)
    moved = changed(large, xy={9: large.xy_px[9] + (6.0, 0)})  # 1.5 px at 512x288
    assert 9 in sure(large, moved, wh_px=(2048, 1152)) and 9 not in sure(large, moved)


def test_constant_acceleration_is_on_its_flight():
    assert np.nanmax(off_flight(flight().xy_px.astype(float))) < 1e-4
    assert np.isnan(off_flight(flight().xy_px)[[0, 1, 18, 19]]).all()

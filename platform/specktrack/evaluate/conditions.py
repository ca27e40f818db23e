"""The same counts under conditions that make tracking hard: speed, half of the court, gaps, visibility and size.

A condition is a property of the labels alone, so every model is judged on the same frames. Sizes and speeds are in px
at 512x288, where different videos compare.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from specktrack.evaluate.joined import Joined
from specktrack.metrics.points import PointCounts
from specktrack.metrics.protocols import PAPER_WH, Tolerance
from specktrack.schema import Visibility

SPEED_PX = (3.0, 8.0)
"""Borders between slow, medium and fast, px per frame: thirds of broadcast badminton, roughly."""
SIZE_PX = (4.0, 8.0)
"""Borders between tiny, small and larger, side of the box."""
NEAR_A_GAP = 2
"""Frames on either side of a gap that count as near it."""
LONG_GAP = 8
"""Frames from which an absence is long: the ball has left the picture rather than passed behind something."""

REST_PX, REST_S = 2.0, 0.5
"""An object is at rest while it stays within so many px at 512x288 for so long: before a serve, dead on the floor."""


def by_condition(joined: Iterable[Joined], tolerance: Tolerance) -> dict[str, PointCounts]:
    """Counts of the frames under each condition. A frame may be under several; conditions without one are left out."""
    counts: dict[str, PointCounts] = {}
    for video in joined:
        outcomes = video.outcomes(tolerance)
        for name, where in conditions(video).items():
            if where.any():
                kinds, numbers = np.unique(outcomes[where], return_counts=True)
                here = PointCounts(**{str(k): int(n) for k, n in zip(kinds, numbers, strict=True)})
                counts[name] = counts.get(name, PointCounts()) + here
    return counts


def conditions(video: Joined) -> Mapping[str, np.ndarray]:
    """Which of the labelled frames are under each condition, bool [N]."""
    xy = video.label_px * (np.array(PAPER_WH) / video.source_wh)
    present = np.asarray(~np.isnan(xy).any(axis=1))
    speed = _speed_px(xy, video.frame)
    upper = present & (video.label_px[:, 1] < video.source_wh[1] / 2)
    gap = _gap_lengths(present, video.frame)
    near = present & (_widened(gap > 0, NEAR_A_GAP))
    side = np.sqrt(video.wh_px.prod(axis=1)) * (PAPER_WH[0] / video.source_wh[0])
    rest = at_rest(xy, video.frame, video.fps)
    return {
        f"at rest (< {REST_PX:g} px in {REST_S:g} s)": rest,
        "in play (all but those at rest)": ~rest,
        f"slow (< {SPEED_PX[0]:g} px/frame)": speed < SPEED_PX[0],
        f"medium ({SPEED_PX[0]:g} to {SPEED_PX[1]:g} px/frame)": (speed >= SPEED_PX[0]) & (speed < SPEED_PX[1]),
        f"fast (>= {SPEED_PX[1]:g} px/frame)": speed >= SPEED_PX[1],
        "upper half (far court)": upper,
        "lower half (near court)": present & ~upper,
        f"within {NEAR_A_GAP} frames of a gap": near,
        f"absent, up to {LONG_GAP - 1} frames": (gap > 0) & (gap < LONG_GAP),
        f"absent, {LONG_GAP} frames or more": gap >= LONG_GAP,
        "labelled blurred": video.visibility == Visibility.BLURRED.value,
        "labelled occluded": video.visibility == Visibility.OCCLUDED.value,
        f"tiny (< {SIZE_PX[0]:g} px)": present & (side < SIZE_PX[0]),
        f"small ({SIZE_PX[0]:g} to {SIZE_PX[1]:g} px)": present & (side >= SIZE_PX[0]) & (side < SIZE_PX[1]),
        f"larger (>= {SIZE_PX[1]:g} px)": present & (side >= SIZE_PX[1]),
    }


def at_rest(xy: np.ndarray, frame: np.ndarray, fps: float) -> np.ndarray:
    """Which labels [N, 2], px at 512x288, stay in one place in the time around them; bool [N].

    Absent and unlabelled frames say nothing, so most of the time has to be labelled.
    """
    reach = max(1, round(REST_S / 2 * fps))
    first, last = (int(frame[0]), int(frame[-1])) if len(frame) else (0, 0)
    path = np.full((last - first + 1 + 2 * reach, 2), np.nan)
    path[frame - first + reach] = xy
    around = np.lib.stride_tricks.sliding_window_view(path, 2 * reach + 1, axis=0)[frame - first]  # [N, 2, W]
    unknown = np.isnan(around)
    spread = np.where(unknown, -np.inf, around).max(axis=2) - np.where(unknown, np.inf, around).min(axis=2)
    often = (~unknown).sum(axis=2) > reach
    return np.asarray((often & (spread < REST_PX)).all(axis=1) & ~np.isnan(xy).any(axis=1))


def _speed_px(xy: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Px per frame [N] to the labelled neighbours, the mean of both sides if there are two; NaN without one."""
    steps = np.where(np.diff(frame) == 1, np.linalg.norm(np.diff(xy, axis=0), axis=1), np.nan)
    sides = np.stack([np.append(np.nan, steps), np.append(steps, np.nan)])
    known = ~np.isnan(sides)
    total = np.where(known, sides, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(len(xy), np.nan), where=known.any(axis=0))


def _gap_lengths(present: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """For absent frames the length of their run of consecutive absent frames, else 0; int [N]."""
    lengths = np.zeros(len(present), int)
    begins = np.flatnonzero(~present & np.append(True, present[:-1] | (np.diff(frame) != 1)))
    for begin in begins:
        stop = begin + 1
        while stop < len(present) and not present[stop] and frame[stop] == frame[stop - 1] + 1:
            stop += 1
        lengths[begin:stop] = stop - begin
    return lengths


def _widened(where: np.ndarray, reach: int) -> np.ndarray:
    """``where`` with ``reach`` more on either side."""
    return np.convolve(where, np.ones(2 * reach + 1))[reach : reach + len(where)] > 0

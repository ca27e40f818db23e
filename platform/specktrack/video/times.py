"""Increasing times for a stream whose own times do not increase: one duplicate does not invalidate all the others."""

import math
from bisect import bisect_left

import numpy as np

FEWEST_LATER = 8
"""A clock has started again where so many pictures in a row are earlier than the one before them."""


def mended(times_s: np.ndarray, *, step_s: float) -> np.ndarray:
    """Presentation times that rise from picture to picture, float64 [N]: all that can be kept are.

    ``times_s`` are the pictures' own in the order in which they are shown, NaN if there is none. A clock that starts
    again resumes from where it was. The fewest times that do not rise (doubles, strays) are replaced, evenly between
    their neighbours, and those that are missing at an end go on by the usual step; ``step_s`` is that where nothing
    tells.
    """
    known = np.flatnonzero(~np.isnan(times_s))
    steps_s = np.diff(times_s[known]) / np.diff(known)
    if len(known) == len(times_s) and (steps_s > 0).all():
        return times_s
    step_s = float(np.median(steps_s[steps_s > 0])) if (steps_s > 0).any() else step_s
    whole_s = _one_clock(times_s, step_s)
    kept = _longest_rise(whole_s)
    if not len(kept):
        return np.arange(len(times_s)) * step_s
    number = np.arange(len(times_s))
    inside = np.interp(number, kept, whole_s[kept])
    before, after = np.minimum(number - kept[0], 0), np.maximum(number - kept[-1], 0)
    return inside + (before + after) * step_s


def _one_clock(times_s: np.ndarray, step_s: float) -> np.ndarray:
    """The times with every restart of the clock moved behind the picture before it."""
    last_known = np.maximum.accumulate(np.where(np.isnan(times_s), 0, np.arange(len(times_s))))
    filled_s = times_s[last_known]
    padded_s = np.concatenate([np.nan_to_num(times_s, nan=-np.inf), np.full(FEWEST_LATER - 1, -np.inf)])
    ahead_s = np.lib.stride_tricks.sliding_window_view(padded_s, FEWEST_LATER).max(axis=1)
    previous_s, one_before_s = np.roll(filled_s, 1), np.roll(filled_s, 2)
    one_before_s[:2] = np.inf
    # Where only the picture before is late, it is the stray.
    restarts = (ahead_s < previous_s) & (times_s <= one_before_s)
    restarts[:1] = False
    shift_s = np.cumsum(np.where(restarts, previous_s + step_s - times_s, 0.0))
    return times_s + shift_s


def _longest_rise(times_s: np.ndarray) -> np.ndarray:
    """Indices of a longest strictly rising choice of times; of equal ones the first. NaN is never chosen."""
    ends_s: list[float] = []
    ends: list[int] = []
    before = np.full(len(times_s), -1)
    for index, time_s in enumerate(times_s.tolist()):
        if math.isnan(time_s):
            continue
        at = bisect_left(ends_s, time_s)
        before[index] = ends[at - 1] if at else -1
        if at == len(ends):
            ends_s.append(time_s)
            ends.append(index)
        elif time_s < ends_s[at]:
            ends_s[at], ends[at] = time_s, index
    chosen = []
    index = ends[-1] if ends else -1
    while index >= 0:
        chosen.append(index)
        index = int(before[index])
    return np.array(chosen[::-1], np.int64)

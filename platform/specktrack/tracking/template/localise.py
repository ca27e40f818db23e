"""Reading a score map: the target is found, lost, uncertain, or found beside a distractor.

The rules and thresholds are DiMP's advanced localisation (Bhat et al., ICCV 2019).
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from specktrack.models.template.entries import OnlineConfig


class State(StrEnum):
    """How to use a frame's result."""

    NORMAL = "normal"
    DISTRACTOR = "distractor"
    """Found, and another peak to learn from."""
    UNCERTAIN = "uncertain"
    """Two peaks, and no telling which is the target: followed, but not learned from."""
    LOST = "lost"


@dataclass(frozen=True)
class Peak:
    """Where the target is in a score map."""

    state: State
    xy_cells: tuple[float, float]
    score: float


def localise(
    scores_HW: np.ndarray,
    *,
    target_wh_cells: tuple[float, float],
    previous_xy_cells: tuple[float, float],
    config: OnlineConfig,
) -> Peak:
    """The target's peak; positions are counted in cells from the map's first one.

    The second highest peak, outside the neighbourhood of the highest, decides between the states; of two peaks alike
    the one near the previous position is the target if the other one is far from it.
    """
    peak = _chosen(scores_HW, target_wh_cells, previous_xy_cells, config)
    return replace(peak, xy_cells=_between_cells(scores_HW, peak.xy_cells)) if config.between_cells else peak


def highest_peaks(
    scores_HW: np.ndarray, count: int, *, target_wh_cells: tuple[float, float], config: OnlineConfig
) -> list[Peak]:
    """The ``count`` highest peaks of which none lies in another's neighbourhood, best first, whatever their scores."""
    found: list[Peak] = []
    rest = scores_HW
    for _ in range(count):
        xy, score = _highest(rest)
        if found and score <= 0:
            break
        state = State.NORMAL if score >= config.lost_below else State.LOST
        found.append(Peak(state, _between_cells(scores_HW, xy) if config.between_cells else xy, score))
        rest = _without_neighbourhood(rest, xy, [config.neighbourhood * side for side in target_wh_cells])
    return found


def _chosen(
    scores_HW: np.ndarray,
    target_wh_cells: tuple[float, float],
    previous_xy_cells: tuple[float, float],
    config: OnlineConfig,
) -> Peak:
    first_xy, first = _highest(scores_HW)
    if first < config.lost_below:
        return Peak(State.LOST, first_xy, first)
    rest = _without_neighbourhood(scores_HW, first_xy, [config.neighbourhood * side for side in target_wh_cells])
    second_xy, second = _highest(rest)
    if second > config.competing_above * first:
        far = config.farthest * math.sqrt(scores_HW.size) / 2
        first_far, second_far = (math.dist(xy, previous_xy_cells) > far for xy in (first_xy, second_xy))
        if second_far and not first_far:
            return Peak(State.DISTRACTOR, first_xy, first)
        if first_far and not second_far:
            return Peak(State.DISTRACTOR, second_xy, second)
        return Peak(State.UNCERTAIN, first_xy, first)
    if second > config.distracting_above * first and second > config.lost_below:
        return Peak(State.DISTRACTOR, first_xy, first)
    return Peak(State.NORMAL, first_xy, first)


def _highest(scores_HW: np.ndarray) -> tuple[tuple[float, float], float]:
    row, column = np.unravel_index(int(scores_HW.argmax()), scores_HW.shape)
    return (float(column), float(row)), float(scores_HW[row, column])


def _without_neighbourhood(scores_HW: np.ndarray, xy: tuple[float, float], sides_wh: list[float]) -> np.ndarray:
    rest = scores_HW.copy()
    left, top = (max(round(c - side / 2), 0) for c, side in zip(xy, sides_wh, strict=True))
    right, bottom = (round(c + side / 2 + 1) for c, side in zip(xy, sides_wh, strict=True))
    rest[top:bottom, left:right] = 0
    return rest


def _between_cells(scores_HW: np.ndarray, xy: tuple[float, float]) -> tuple[float, float]:
    """The top of the parabolas through a peak and its neighbours in a row and in a column."""
    column, row = (round(c) for c in xy)
    return column + _top(scores_HW[row], column), row + _top(scores_HW[:, column], row)


def _top(line: np.ndarray, i: int) -> float:
    """Offset from cell ``i`` of a line, at most half a cell; none at the line's ends, or where ``i`` is no peak."""
    if not 0 < i < len(line) - 1:
        return 0.0
    before, here, after = (float(score) for score in line[i - 1 : i + 2])
    bend = before - 2 * here + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend < 0 else 0.0

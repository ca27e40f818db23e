"""Rows that can be taken for labels: two passes agree on them, and the flight around them does.

No label is needed, so this is how a model learns from footage that nobody labelled. What is in doubt gets no row.
"""

# N frames

import numpy as np

from specktrack.config import Config
from specktrack.frames import Trajectory
from specktrack.schema import Provenance

_PAPER_WH = np.array([512, 288])


class Confirming(Config):
    """When a row is sure; distances in px at 512x288."""

    score: float = 0.6
    """Minimum score of the object in both passes."""
    agree_px: float = 2.0
    """Maximum distance between the two positions."""
    off_flight_px: float = 3.0
    """Maximum distance from the cubic through the two rows before and the two rows after, ..."""
    off_flight_share: float = 0.2
    """... or this share of the distance that the object moves in a frame."""
    nothing: float = 0.15
    """If both passes see nothing above this score, the object is absent."""


def confirmed(one: Trajectory, other: Trajectory, wh_px: tuple[int, int], config: Confirming) -> Trajectory:
    """The rows of ``one`` that are sure, as labels; ``other`` has the same frames, followed in another way.

    Both have a row for each of consecutive frames of a picture of ``wh_px``, and scores that are probabilities.
    """
    assert np.array_equal(one.frame, other.frame)
    scale = _PAPER_WH / np.array(wh_px)
    xy, other_xy = one.xy_px * scale, other.xy_px * scale
    clear = np.minimum(one.score, other.score) >= config.score
    with np.errstate(invalid="ignore"):
        agree = np.linalg.norm(xy - other_xy, axis=1) <= config.agree_px
        present = (
            clear & agree & (off_flight(xy) <= np.maximum(config.off_flight_px, config.off_flight_share * _speed(xy)))
        )
    absent = ~one.present & ~other.present & (np.maximum(one.score, other.score) <= config.nothing)
    sure = one[present | absent]
    n = len(sure)
    return Trajectory(
        sure.frame, sure.pts_s, sure.xy_px, np.full(n, np.nan, np.float32),
        provenance=np.full(n, Provenance.LABELLED.value, object),
    )  # fmt: skip


def off_flight(xy: np.ndarray) -> np.ndarray:
    """Distance [N] of each position [N, 2] to the cubic through its four neighbours; NaN where one is missing.

    Constant acceleration lies on it exactly; a hit, a bounce and a wrong place do not.
    """
    around = np.pad(xy, ((2, 2), (0, 0)), constant_values=np.nan)
    cubic = (-around[:-4] + 4 * around[1:-3] + 4 * around[3:-1] - around[4:]) / 6
    return np.asarray(np.linalg.norm(xy - cubic, axis=1))


def _speed(xy: np.ndarray) -> np.ndarray:
    """Half of the way [N] from the position before to the one after; NaN where one is missing."""
    around = np.pad(xy, ((1, 1), (0, 0)), constant_values=np.nan)
    return np.asarray(np.linalg.norm(around[2:] - around[:-2], axis=1) / 2)

"""Whether a score can be taken at its word: of rows with score s, a share s should be right."""

import numpy as np

from specktrack.config import Config

BINS = 10
_FARTHEST = 1e-4
"""Scores are taken to be at least so far from 0 and 1, where logits end."""


class Bin(Config):
    """Rows whose scores lie between ``low`` and ``high``."""

    low: float
    high: float
    rows: int
    score: float
    """Their mean."""
    right: float
    """Share of them that lie within the tolerance of their label."""


class Reliability(Config):
    """A reliability diagram and the one number that sums it up."""

    bins: tuple[Bin, ...]
    """Those that hold any rows, from low scores to high ones."""
    error: float
    """Expected calibration error (Guo et al., ICML 2017): mean distance of score and share, each bin by its rows."""


def reliability(score: np.ndarray, right: np.ndarray) -> Reliability | None:
    """Of rows with ``score`` [N] in [0, 1], bool ``right`` [N]: how scores and shares agree; None without rows."""
    if not len(score):
        return None
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    bins = tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            rows=int(inside.sum()),
            score=float(score[inside].mean()),
            right=float(right[inside].mean()),
        )
        for number in range(BINS)
        if (inside := place == number).any()
    )
    off = sum(of.rows * abs(of.score - of.right) for of in bins)
    return Reliability(bins=bins, error=off / len(score))


def logit(score: np.ndarray) -> np.ndarray:
    """log(s / (1 - s)), finite everywhere."""
    clipped = np.clip(np.asarray(score, float), _FARTHEST, 1 - _FARTHEST)
    return np.asarray(np.log(clipped / (1 - clipped)))


def fitted(score: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and offset on the logit that make ``score`` [N] as likely as ``right`` [N] says (Platt, 1999)."""
    from scipy.optimize import minimize  # half a second, which those who apply a calibration need not wait for

    x, y = logit(score), np.asarray(right, float)

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * x + parameters[1]
        return float(np.mean(np.logaddexp(0, z) - y * z))

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(offset)

"""Choosing one candidate per frame, or none, by the most plausible course of events around it.

A Viterbi pass over the candidates of neighbouring frames and the state "absent", cut to a fixed number of frames on
either side, so that a row depends on its neighbourhood only and not on where a clip began.
"""

# N frames, K candidates

import math
from typing import Literal

import numpy as np
from pydantic import Field

from specktrack.config import Config


class Choice(Config):
    """How candidates are weighed."""

    kind: Literal["flight"] = "flight"
    """The project's own."""
    frames: int = Field(default=8, ge=0)
    """Neighbours looked at on either side; 0 takes the highest peak of each frame alone."""
    threshold: float = Field(default=0.3, gt=0, lt=1)
    """A lone candidate below it is no object; what its neighbours show may lower the bar or raise it."""
    floor: float = Field(default=0.05, gt=0, lt=1)
    """Peaks below it are never taken, whatever their neighbours."""
    step: float = Field(default=0.034, gt=0)
    """Distance between frames, as a share of the picture's diagonal, that is one unit (a factor of e) less likely than
    none."""
    change: float = Field(default=2.0, ge=0)
    """How unlikely it is, in the same units, that the object appears or disappears; a jump costs at most both."""

    @property
    def behind(self) -> int:
        """Frames before a row that it depends on."""
        return self.frames

    @property
    def ahead(self) -> int:
        """Frames after a row that it depends on."""
        return self.frames


def choose(
    xy: np.ndarray, score: np.ndarray, choice: Choice, *, wh_px: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 2] (NaN where absent) and scores [N] chosen from candidates [N, K, 2] and [N, K].

    ``wh_px`` is the size of the picture that the positions lie in. Row n depends on rows n - frames .. n + frames.
    """
    if not len(xy):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    usable = (score >= choice.floor) & ~np.isnan(xy).any(axis=-1)
    seen = np.where(usable, _logit(score) - _logit(np.array(choice.threshold)), -np.inf)
    evidence = np.concatenate([seen, np.zeros((len(xy), 1))], axis=1)  # [N, K + 1]: the last state is "absent"
    total = evidence
    if choice.frames:
        in_steps = xy / (choice.step * math.hypot(*wh_px))
        before = _best_course(in_steps, evidence, choice)
        after = _best_course(in_steps[::-1], evidence[::-1], choice)[::-1]
        total = evidence + before + after
    best, rows = total.argmax(axis=1), np.arange(len(xy))
    present = best < xy.shape[1]
    best = np.where(present, best, 0)
    position = np.where(present[:, None], xy[rows, best], np.nan).astype(np.float32)
    return position, score[rows, best].astype(np.float32)


def _best_course(in_steps: np.ndarray, evidence: np.ndarray, choice: Choice) -> np.ndarray:
    """Evidence of the ``frames`` rows before for each state: that of the best course that leads to it, [N, K + 1].

    m_0 = 0;  m_k(n, s) = max_s' (evidence(n-1, s') + m_{k-1}(n-1, s') - cost(s', s)).
    """
    candidates = in_steps.shape[1]
    with np.errstate(invalid="ignore"):
        way = in_steps[1:, :, None, :] - in_steps[:-1, None, :, :]  # [N-1, K now, K before, 2]
    distance = np.linalg.norm(way, axis=-1)
    cost = np.full((max(0, len(in_steps) - 1), candidates + 1, candidates + 1), choice.change)
    cost[:, :candidates, :candidates] = np.fmin(distance, 2 * choice.change)
    cost[:, candidates, candidates] = 0
    course = np.zeros_like(evidence)
    for _ in range(choice.frames):
        so_far = (evidence[:-1] + course[:-1])[:, None, :]
        course = np.concatenate([np.zeros_like(course[:1]), (so_far - cost).max(axis=-1)])
    return course


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))

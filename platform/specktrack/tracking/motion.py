"""Choosing one candidate per frame by how well it continues a plausible flight.

A dynamic programme over the candidates of neighbouring frames, cut to a fixed number of frames on either side, so that
a row depends on its neighbourhood only and not on where a clip began.
"""

# N frames, K candidates

from typing import Literal

import numpy as np
from pydantic import Field

from specktrack.config import Config


class Choice(Config):
    """How candidates are weighed."""

    kind: Literal["flight"] = "flight"
    """The project's own."""
    frames: int = Field(default=4, ge=0)
    """Neighbours looked at on either side; 0 takes the highest peak of each frame alone."""
    threshold: float = Field(default=0.3, gt=0, lt=1)
    """A lone candidate below it is no object; support by its neighbours lowers the bar, contradiction raises it."""
    floor: float = Field(default=0.1, gt=0, lt=1)
    """Peaks below it are never taken, whatever their support."""
    reach_px: float = Field(default=40.0, gt=0)
    """Distance between frames, network px, at which a step supports as little as no step at all."""
    support: float = Field(default=0.5, ge=0)
    """Weight of one neighbour's evidence against the candidate's own."""

    @property
    def behind(self) -> int:
        """Frames before a row that it depends on."""
        return self.frames

    @property
    def ahead(self) -> int:
        """Frames after a row that it depends on."""
        return self.frames


def choose(xy: np.ndarray, score: np.ndarray, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 2] (NaN where absent) and scores [N] chosen from candidates [N, K, 2] and [N, K].

    Row n depends on rows n - frames .. n + frames.
    """
    if not len(xy):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    usable = (score >= choice.floor) & ~np.isnan(xy).any(axis=-1)
    evidence = np.where(usable, _logit(score) - _logit(np.array(choice.threshold)), -np.inf)
    total = evidence
    if choice.frames:
        forward = _support(xy, evidence, choice)
        backward = _support(xy[::-1], evidence[::-1], choice)[::-1]
        total = evidence + forward + backward
    best = total.argmax(axis=1)
    rows = np.arange(len(xy))
    present = total[rows, best] > 0
    position = np.where(present[:, None], xy[rows, best], np.nan).astype(np.float32)
    return position, np.where(usable[rows, best], score[rows, best], score[:, 0]).astype(np.float32)


def _support(xy: np.ndarray, evidence: np.ndarray, choice: Choice) -> np.ndarray:
    """What the ``frames`` rows before give to each candidate: the best chain's evidence, [N, K], never below zero.

    s_0 = 0;  s_k(n, c) = support * max(0, max_c' (evidence(n-1, c') + s_{k-1}(n-1, c')) * closeness(c', c)).
    """
    with np.errstate(invalid="ignore"):
        distance = np.linalg.norm(xy[1:, :, None, :] - xy[:-1, None, :, :], axis=-1)  # [N-1, K now, K before]
    closeness = np.nan_to_num(np.clip(1 - distance / choice.reach_px, 0, 1))
    support = np.zeros_like(evidence)
    for _ in range(choice.frames):
        chain = np.maximum(evidence[:-1] + support[:-1], 0)
        support = np.concatenate([support[:1] * 0, choice.support * (chain[:, None, :] * closeness).max(axis=-1)])
    return support


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))

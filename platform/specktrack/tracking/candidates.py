"""Where an object may be in a frame: what every source of proposals says, whatever it is.

A heatmap network, a template's head, a search network and plain motion are all ``Candidates``; the follower
(``tracking.follower``) chooses among what they propose.
"""

# K places, R rectangles

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np

from specktrack.frames import FrameBatch, Viewport
from specktrack.schema import Box

MOST_EVIDENCE = 4.0
AGAINST = 0.75
"""Evidence against a place, if a source that knows the object looked there and saw nothing."""


@dataclass(frozen=True)
class Picture:
    """One frame as sources look at it."""

    frame: int
    pts_s: float
    pixels: np.ndarray
    """uint8 [H, W, 3], RGB."""
    viewport: Viewport
    """From source px to the px of ``pixels``."""

    @classmethod
    def each(cls, batch: FrameBatch) -> list[Self]:
        """The pictures of a batch."""
        return [
            cls(frame, pts_s, pixels, batch.viewport)
            for frame, pts_s, pixels in zip(batch.frame.tolist(), batch.pts_s.tolist(), batch.pixels, strict=True)
        ]


@dataclass(frozen=True)
class Expected:
    """Prior knowledge about an object before a frame is looked at."""

    xy_px: np.ndarray
    """[2], source px: where its flight goes on to."""
    sigma_px: float
    """How far it may be off, on either axis."""
    size_px: float
    """Root of its area."""
    unseen: int
    """Frames since it was last seen; 0 if it was in the last one."""


@dataclass(frozen=True)
class Places:
    """The proposals of a source."""

    xy_px: np.ndarray
    """[K, 2], source px."""
    evidence: np.ndarray
    """[K]: logarithm of how much more likely than not each is the object, by what the source sees alone."""
    score: np.ndarray
    """[K] in [0, 1], as a row tells it."""
    looked_at: np.ndarray = field(default_factory=lambda: np.array([[-np.inf, -np.inf, np.inf, np.inf]]))
    """[R, 4]: left, top, right, bottom of where the source looked, source px; everywhere by default."""

    @classmethod
    def none(cls) -> Self:
        """Of a source that did not look."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros((0, 4)))

    @classmethod
    def scored(
        cls, xy_px: np.ndarray, score: np.ndarray, *, threshold: float, looked_at: np.ndarray | None = None
    ) -> Self:
        """Of scores that mean nothing at ``threshold``; places that are NaN are left out."""
        there = ~np.isnan(xy_px).any(axis=1)
        xy_px, score = xy_px[there].astype(float), score[there].astype(float)
        evidence = np.clip(_logit(score) - _logit(np.array(threshold)), -MOST_EVIDENCE, MOST_EVIDENCE)
        return cls(xy_px, evidence, score) if looked_at is None else cls(xy_px, evidence, score, looked_at)

    def looked(self, xy_px: np.ndarray) -> np.ndarray:
        """bool [K]: places [K, 2] where the source looked."""
        low, high = self.looked_at[:, None, :2], self.looked_at[:, None, 2:]
        return np.asarray(((xy_px >= low) & (xy_px <= high)).all(axis=2).any(axis=0))


@dataclass(frozen=True)
class Pool:
    """The places of all sources as one."""

    places: Places
    belief: np.ndarray
    """[S, K]: how likely each source takes each place for the object, in [0, 1]; NaN where it did not look."""


def pooled(sources: Sequence[Places], trust: np.ndarray, *, within_px: float) -> Pool:
    """The combined evidence of several sources, each weighted by how well it knows the object: ``trust`` [S] in [0, 1].

    Places nearer than ``within_px`` are one, at the place of the source that says most for it. A source that looked at
    a place and has none there speaks against it.
    """
    every = [(worth, s, k) for s, p in enumerate(sources) for k, worth in enumerate((trust[s] * p.evidence).tolist())]
    kept: list[tuple[int, int]] = []
    for _, s, k in sorted(every, reverse=True):
        if all(np.linalg.norm(sources[s].xy_px[k] - sources[a].xy_px[b]) > within_px for a, b in kept):
            kept.append((s, k))
    xy_px = np.array([sources[s].xy_px[k] for s, k in kept]).reshape(-1, 2)
    says = np.zeros((len(sources), len(kept)))
    belief = np.full_like(says, np.nan)
    for s, places in enumerate(sources):
        near = np.linalg.norm(xy_px[:, None] - places.xy_px, axis=2) <= within_px
        best = np.where(near, places.evidence, -np.inf).max(axis=1, initial=-np.inf)
        found, looked = np.isfinite(best), places.looked(xy_px)
        says[s] = np.where(found, best, np.where(looked, -AGAINST, 0.0))
        belief[s] = np.where(found, 1 / (1 + np.exp(-2 * np.where(found, best, 0))), np.where(looked, 0.0, np.nan))
    score = np.array([sources[s].score[k] for s, k in kept])
    evidence = np.minimum(trust @ says, MOST_EVIDENCE) if len(sources) else np.zeros(0)
    return Pool(Places(xy_px, evidence, score), belief)


class Candidates(Protocol):
    """One source of proposals about one object."""

    def begin(self, picture: Picture, box: Box) -> float:
        """Learn the object's appearance and position from a prompt. Returns how well the source knows it, in [0, 1]."""
        ...

    def propose(self, picture: Picture, expected: Expected, hints_px: np.ndarray) -> Places:
        """Where it may be in a later frame; frames come in order. ``hints_px`` [H, 2] are other sources' places."""
        ...

    def confirm(self, picture: Picture, xy_px: np.ndarray) -> tuple[float, float] | None:
        """The object is at [2] of a picture that was just looked at: learn from it. Its size, if the source knows."""
        ...


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))

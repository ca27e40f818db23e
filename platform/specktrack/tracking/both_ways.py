"""Following backwards from a prompt, and joining what passes in both directions say.

A session sees frames in rising order. So frames before a prompt are shown to it as a mirror would: the last one first,
with numbers and times counted from it.
"""

# N frames

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from specktrack.frames import FrameBatch, Trajectory, concat
from specktrack.schema import Prompt, Provenance, Visibility

AGREE_SIZES = 0.5
"""Two passes agree on a place if theirs are so near, in sizes of the object."""


@dataclass(frozen=True)
class Mirror:
    """Time reversed: ``frame`` becomes 0, the one before it 1, and so on."""

    frame: int
    pts_s: float

    def prompts(self, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """The prompts up to the mirror's frame, as a session sees them."""
        return tuple(
            prompt.model_copy(update={"frame": self.frame - prompt.frame})
            for prompt in prompts
            if prompt.frame <= self.frame
        )

    def batch(self, batch: FrameBatch) -> FrameBatch:
        """Frames, the last one first."""
        frame, pts_s = self.frame - batch.frame[::-1], self.pts_s - batch.pts_s[::-1]
        luma = None if batch.luma is None else batch.luma[::-1]
        return FrameBatch(
            np.ascontiguousarray(batch.pixels[::-1]), frame, pts_s, batch.viewport, batch.background, luma
        )

    def rows(self, rows: Trajectory) -> Trajectory:
        """A session's rows, in the order of the video."""
        back = replace(rows, frame=self.frame - rows.frame, pts_s=self.pts_s - rows.pts_s)
        return back[np.lexsort((back.frame, back.object))]


def goes_back(prompts: Sequence[Prompt], start: int) -> bool:
    """Whether there is something to follow backwards in frames from ``start`` on, or passes to join."""
    objects = {prompt.object for prompt in prompts}
    return len(prompts) > len(objects) or any(prompt.frame > start for prompt in prompts)


def joined(forwards: Trajectory, backwards: Trajectory, prompts: Sequence[Prompt]) -> Trajectory:
    """The rows of both passes as one, for each object: ``forwards`` of all frames, ``backwards`` up to a last prompt.

    Before an object's first prompt only the way back has seen it, and behind the last only the way on. Between two
    prompts each pass is believed from its own prompt up to where both agree, and there their mean, weighed by the
    distance to the prompts; where neither is believed, the way between is interpolated, and the rows say so.
    """
    parts = []
    for number in sorted({prompt.object for prompt in prompts}):
        one, other = forwards.of(number), backwards.of(number)
        told = sorted(prompt.frame for prompt in prompts if prompt.object == number)
        parts.append(other[other.frame < told[0]])
        for start, stop in pairwise(told):
            parts.append(_between(one.between(start, stop), other.between(start, stop)))
        parts.append(one[one.frame >= told[-1]])
    return concat(parts)


def _between(one: Trajectory, other: Trajectory) -> Trajectory:
    """Rows [N] from one prompt up to the next, of the pass from the first and of that from the second."""
    n = len(one)
    with np.errstate(invalid="ignore"):
        distance = np.linalg.norm(one.xy_px - other.xy_px, axis=1)
        size = (one.wh_px * other.wh_px).prod(axis=1) ** 0.25
    agree = 1 + np.flatnonzero(distance[1:] <= np.maximum(AGREE_SIZES * size, 1.0)[1:])  # both begin at the prompt
    first, last = (int(agree[0]), int(agree[-1])) if len(agree) else _nearest(one, other, distance)
    mean = np.zeros(n, bool)
    mean[agree] = True
    at = np.arange(n)
    later = at > last
    share = np.where(mean, at / n, later.astype(float))[:, None]
    xy_px = np.where(
        mean[:, None], one.xy_px * (1 - share) + other.xy_px * share, _either(one.xy_px, other.xy_px, later)
    )
    wh_px = np.where(
        mean[:, None], one.wh_px * (1 - share) + other.wh_px * share, _either(one.wh_px, other.wh_px, later)
    )
    score = np.where(later, other.score, one.score)
    told = later ^ np.isnan(np.where(later, other.kind_score, one.kind_score))  # by the other pass where one says none
    kind, kind_score = np.where(told, other.kind, one.kind), np.where(told, other.kind_score, one.kind_score)
    doubtful = ~mean & (at > first) & (at < last)
    present = ~np.isnan(xy_px).any(axis=1) & ~doubtful
    visibility, provenance = np.where(later, other.visibility, one.visibility), one.provenance.copy()
    gap = np.zeros(n, np.int32)
    kind[doubtful], kind_score[doubtful] = None, np.nan
    if doubtful.any():
        for axis in range(2):
            xy_px[doubtful, axis] = np.interp(at[doubtful], at[present], xy_px[present, axis])
            wh_px[doubtful, axis] = np.interp(at[doubtful], at[present], wh_px[present, axis])
        visibility[doubtful], provenance[doubtful] = Visibility.OCCLUDED.value, Provenance.INTERPOLATED.value
        edges = np.flatnonzero(np.diff(np.concatenate([[False], doubtful, [False]]).astype(np.int8)))
        for begin, end in edges.reshape(-1, 2):
            gap[begin:end] = end - begin
    visibility = np.where(np.isnan(xy_px).any(axis=1), Visibility.ABSENT.value, visibility)
    visibility[(visibility == Visibility.ABSENT.value) & ~np.isnan(xy_px).any(axis=1)] = Visibility.CLEAR.value
    return replace(
        one, xy_px=xy_px.astype(np.float32), wh_px=wh_px.astype(np.float32), score=score.astype(np.float32),
        visibility=visibility, provenance=provenance, gap=gap, kind=kind, kind_score=kind_score,
    )  # fmt: skip


def _nearest(one: Trajectory, other: Trajectory, distance: np.ndarray) -> tuple[int, int]:
    """Where to change over from one pass to the other if they never agree: where they come nearest, else half way."""
    if np.isfinite(distance).any():
        at = int(np.nanargmin(distance))
        return at, at
    seen = np.flatnonzero(one.present)
    at = int(seen[-1]) if len(seen) else len(one) // 2
    return at, at


def _either(one: np.ndarray, other: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Values [N, 2] of one pass up to where they change over, of the other behind; the other's where one has none."""
    preferred, second = np.where(later[:, None], other, one), np.where(later[:, None], one, other)
    return np.where(np.isnan(preferred), second, preferred)

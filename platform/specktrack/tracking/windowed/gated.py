"""Choosing one candidate per frame by WASB's gate (Tarashima et al., BMVC 2023), with its motion prediction in use.

A frame's best candidate is taken among those near the place where the object is expected: by constant acceleration
after three visible frames in a row, at its last position after fewer, anywhere after a frame without it.

The published tracker remembers a whole video, so its rows would depend on where a clip was cut. Here every row is the
end of a track of its own that begins ``memory`` frames before it. Both agree from any frame on that has no candidate
within the gate, because there the published tracker forgets too.
"""

# N frames, K candidates

from typing import Literal

import numpy as np
from pydantic import Field

from specktrack.config import Config


class Gate(Config):
    """How far an object may be from where it is expected."""

    kind: Literal["gated"] = "gated"
    """WASB's tracker."""
    max_disp_px: float = Field(default=300.0, gt=0)
    """Source px between a candidate and the expected place; WASB's value for 1280x720 and 1920x1080."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Candidates below it are never taken."""
    memory: int = Field(default=24, ge=3)
    """Frames before a row that it depends on."""

    @property
    def behind(self) -> int:
        """Frames before a row that it depends on."""
        return self.memory

    @property
    def ahead(self) -> int:
        """Frames after a row that it depends on: none, so it can be used while frames arrive."""
        return 0


def choose_gated(xy_px: np.ndarray, score: np.ndarray, gate: Gate) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 2] (NaN where absent) and scores [N] chosen from candidates [N, K, 2] in source px and [N, K].

    Row n depends on rows n - memory .. n. All tracks advance together, each at its own frame.
    """
    count = len(xy_px)
    if not count:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    rows = np.arange(count)
    usable = (score >= gate.threshold) & ~np.isnan(xy_px).any(axis=-1)
    last = np.full((3, count, 2), np.nan)  # each track's positions one, two and three frames ago
    for age in range(min(gate.memory, count - 1), -1, -1):
        frame = rows - age
        allowed = usable[frame] & (frame >= 0)[:, None] & _near(xy_px[frame], last, gate.max_disp_px)
        best = np.where(allowed, score[frame], -1).argmax(axis=1)
        found = allowed[rows, best]
        place = np.where(found[:, None], xy_px[frame, best], np.nan)
        last = np.stack([place, last[0], last[1]])
    return last[0].astype(np.float32), np.where(found, score[rows, best], score[:, 0]).astype(np.float32)


def expected(last: np.ndarray) -> np.ndarray:
    """Where objects [N, 2] are next, from their positions [3, N, 2] one, two and three frames ago; NaN if unknown.

    p + v + a / 2 with the velocity at the last frame, v = (p1 - p2) + a / 2, and a = (p1 - p2) - (p2 - p3): exact for
    constant acceleration.
    """
    accelerated = 3 * last[0] - 3 * last[1] + last[2]
    return np.where(np.isnan(accelerated), last[0], accelerated)


def _near(xy_px: np.ndarray, last: np.ndarray, max_disp_px: float) -> np.ndarray:
    """bool [N, K]: the candidate lies within the gate, or nothing is expected anywhere."""
    distance = np.linalg.norm(xy_px - expected(last)[:, None], axis=-1)
    return (distance < max_disp_px) | np.isnan(last[0]).any(axis=-1)[:, None]

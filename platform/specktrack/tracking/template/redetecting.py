"""A template tracker that finds its target again: while it is lost, frames are searched for the prompt's template.

The local session looks only around the last box; once the target has left that region it cannot return by itself. The
trajectory before the loss says where to look first (the outlook of the LaTOT paper): see ``TrajectoryPrior``.
"""

import math
from typing import Protocol

import numpy as np
from pydantic import Field, SerializeAsAny

from specktrack.config import Config
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.schema import Box, Prompt
from specktrack.tracking.template.search import Redetector, TrajectoryPrior

REMEMBERED = 8
"""Positions kept for the prior."""


class Redetecting(Config):
    """When a lost target is looked for, and when it counts as found."""

    after_frames: int = Field(default=2, ge=1)
    """Frames in a row without the target before whole frames are searched."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Score above which a candidate is believed; the search network is taught one half."""


class LocalSession(Protocol):
    """Interface of a session that a finder can help."""

    lost: bool
    """The target was not found in the last frame."""

    def push(self, batch: FrameBatch) -> Trajectory:
        """Rows of these frames."""
        ...

    def finish(self) -> Trajectory:
        """The remaining rows."""
        ...

    def look_at(self, box: Box) -> None:
        """Search around ``box`` in the next frame."""
        ...


class LocalTracker(Protocol):
    """Opens such sessions; frames come at source size."""

    @property
    def config(self) -> Config:
        """Settings of the tracker while it follows."""
        ...

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """The viewport of its sessions."""
        ...

    def open(self, prompt: Prompt | None = None) -> LocalSession:
        """A session; ConfigError without a prompt."""
        ...


class _BothConfig(Config):
    local: SerializeAsAny[Config]
    redetecting: Redetecting


class RedetectingTracker:
    """A local tracker with a search network beside it."""

    stride = 1
    lead = None
    """Rows depend on all frames since the prompt."""
    step_s = None
    wants_background = False

    def __init__(self, local: LocalTracker, finder: Redetector, redetecting: Redetecting | None = None) -> None:
        self._local, self._finder = local, finder
        self._redetecting = redetecting or Redetecting()

    @property
    def config(self) -> Config:
        """That of both parts."""
        return _BothConfig(local=self._local.config, redetecting=self._redetecting)

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """That of the local tracker: frames at source size."""
        return self._local.viewport(source_wh_px)

    def open(self, prompt: Prompt | None = None) -> "RedetectingSession":
        """A new session; ConfigError without a prompt."""
        session = self._local.open(prompt)
        assert prompt is not None
        return RedetectingSession(session, self._finder.copy(), prompt, self._redetecting)


class RedetectingSession:
    """A local session that is pointed to where the search network sees the target, while it is lost."""

    def __init__(self, session: LocalSession, finder: Redetector, prompt: Prompt, config: Redetecting) -> None:
        self._session, self._finder, self._prompt, self._config = session, finder, prompt, config
        self._frames: list[int] = []
        self._places: list[tuple[float, float]] = []
        self._wh_px = (prompt.box.w_px, prompt.box.h_px)
        self._lost_frames = 0
        self.found = 0
        """How often a candidate was believed."""

    def push(self, batch: FrameBatch) -> Trajectory:
        """Rows of these frames; one frame at a time, since each may change where the next is searched."""
        return concat([self._push(batch[i : i + 1]) for i in range(len(batch))])

    def finish(self) -> Trajectory:
        """Rows that the local session still holds."""
        return self._session.finish()

    def provisional(self) -> Trajectory:
        """No row waits."""
        return Trajectory.empty()

    def _push(self, one: FrameBatch) -> Trajectory:
        rows = self._session.push(one)
        frame = int(one.frame[0])
        if frame == self._prompt.frame:
            self._finder.learn(one.pixels[0], self._prompt.box)
        for i in np.flatnonzero(rows.present & (not self._session.lost)):  # a doubtful place is no part of its path
            self._remember(int(rows.frame[i]), rows.xy_px[i], rows.wh_px[i])
        self._lost_frames = self._lost_frames + 1 if self._session.lost and frame > self._prompt.frame else 0
        if self._lost_frames >= self._config.after_frames:
            self._search(frame, one.pixels[0])
        return rows

    def _remember(self, frame: int, xy_px: np.ndarray, wh_px: np.ndarray) -> None:
        self._frames = [*self._frames[1 - REMEMBERED :], frame]
        self._places = [*self._places[1 - REMEMBERED :], (float(xy_px[0]), float(xy_px[1]))]
        if not np.isnan(wh_px).any():
            self._wh_px = (float(wh_px[0]), float(wh_px[1]))

    def _search(self, frame: int, pixels_HWC: np.ndarray) -> None:
        """Point the local session to the best candidate that is believed."""
        size_px = math.sqrt(self._wh_px[0] * self._wh_px[1])
        prior = TrajectoryPrior.of(np.array(self._frames), np.array(self._places), frame, size_px=size_px)
        candidates = self._finder.candidates(pixels_HWC, prior)
        for (x, y), score in zip(candidates.xy_px, candidates.score, strict=True):
            if score >= self._config.threshold:
                self._session.look_at(Box(cx_px=x, cy_px=y, w_px=self._wh_px[0], h_px=self._wh_px[1]))
                self.found += 1
                return

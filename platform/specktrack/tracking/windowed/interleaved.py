"""Time as a network was taught it: at higher rates every n-th frame is followed as a video of its own.

A network that learned from 30 frames/s expects a ball to move as far between two frames of a window as it does in
1/30 s. At 120 frames/s it moves a quarter as far, and is taken for something at rest. So four sessions follow the
frames 0, 4, 8, ..., the frames 1, 5, 9, ... and so on; together their rows are those of all frames.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from specktrack.config import Config
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.schema import Prompt

if TYPE_CHECKING:
    from specktrack.tracking.tracker import Session, Tracker


def frames_apart(fps: float, step_s: float | None) -> int:
    """Frames of a video of ``fps`` that lie nearest to ``step_s`` apart, at least 1; 1 where no step was taught."""
    return 1 if step_s is None else max(1, int(fps * step_s + 0.5))


def at_rate(tracker: "Tracker", fps: float) -> "Tracker":
    """``tracker`` as a video of ``fps`` wants it: itself, or one that interleaves its sessions."""
    every = frames_apart(fps, tracker.step_s)
    return tracker if every == 1 else InterleavedTracker(tracker, every)


class InterleavedTracker:
    """A tracker that follows every n-th frame as a video of its own."""

    def __init__(self, tracker: "Tracker", every: int) -> None:
        self._tracker, self._every = tracker, every
        self.step_s = None
        """The frames are as far apart as they should be."""

    @property
    def config(self) -> Config:
        """That of the tracker."""
        return self._tracker.config

    @property
    def stride(self) -> int:
        """The tracker's, in each of the n videos."""
        return self._tracker.stride * self._every

    @property
    def lead(self) -> int | None:
        """The tracker's, in each of the n videos."""
        return None if self._tracker.lead is None else self._tracker.lead * self._every

    @property
    def wants_background(self) -> bool:
        """Whether the tracker does."""
        return self._tracker.wants_background

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """That of the tracker."""
        return self._tracker.viewport(source_wh_px)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "InterleavedSession":
        """A session of the tracker for every phase."""
        return InterleavedSession([self._tracker.open(prompt) for _ in range(self._every)])


class InterleavedSession:
    """Live state: a session for each phase, and their rows that wait for earlier frames of the others."""

    def __init__(self, phases: Sequence["Session"]) -> None:
        self._phases, self._waiting = phases, Trajectory.empty()
        self._final: list[int] = []  # of each phase: the first of its frames that has no row yet

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take frames; return rows that no later frame can change, in order."""
        every = len(self._phases)
        if not self._final and len(batch):
            first = int(batch.frame[0])
            self._final = [first + (phase - first) % every for phase in range(every)]
        new = []
        for phase, session in enumerate(self._phases):
            own = batch.frame % every == phase
            luma = None if batch.luma is None else batch.luma[own]
            frames = FrameBatch(
                batch.pixels[own], batch.frame[own] // every, batch.pts_s[own], batch.viewport, batch.background, luma
            )
            new.append(self._final_of(phase, session.push(frames)))
        return self._take(new, min(self._final, default=0))

    def finish(self) -> Trajectory:
        """The remaining rows."""
        new = [self._final_of(phase, session.finish()) for phase, session in enumerate(self._phases)]
        return self._take(new, max(self._final, default=0))

    def provisional(self) -> Trajectory:
        """The rows that wait, and what each phase knows of its later frames."""
        new = [self._of_phase(phase, session.provisional()) for phase, session in enumerate(self._phases)]
        rows = concat([self._waiting, *new])
        return rows[np.argsort(rows.frame)]

    def _final_of(self, phase: int, rows: Trajectory) -> Trajectory:
        if len(rows):
            self._final[phase] = (int(rows.frame[-1]) + 1) * len(self._phases) + phase
        return self._of_phase(phase, rows)

    def _of_phase(self, phase: int, rows: Trajectory) -> Trajectory:
        """Rows of a phase with the video's frame numbers; a gap is as long as it lasts there."""
        every = len(self._phases)
        return replace(rows, frame=rows.frame * every + phase, gap=rows.gap * every)

    def _take(self, new: list[Trajectory], stop: int) -> Trajectory:
        """Rows of frames below ``stop``, in order; the others wait."""
        rows = concat([self._waiting, *new])
        rows = rows[np.argsort(rows.frame)]
        ready = int(np.searchsorted(rows.frame, stop))
        self._waiting = rows[ready:]
        return rows[:ready]

"""Which of the places that are proposed, frame by frame, is the object that a prompt showed.

Hypotheses are paths from the prompt through one place per frame, or none. A path's worth is the sum of what its places
say for themselves less what its way costs: how unlikely each place is by the flight up to it, and that the object
disappears and comes back. Only the best path to each place is kept, with its own motion state (Viterbi, with the flight
of the best predecessor); a path may leave out up to ``gap`` frames, and the best one any number.
"""

# N frames, K places, M ends of paths

from collections import deque
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from specktrack.config import Config
from specktrack.tracking.flight import Flight, Motion, together


class Weighing(Config):
    """Costs of a path, in units in which one is a factor of e."""

    gap: int = Field(default=12, ge=1)
    """Frames that any path may leave out."""
    change: float = Field(default=2.0, ge=0)
    """That the object disappears, and that it comes back: once each."""
    missed: float = Field(default=1.0, ge=0)
    """Each frame that is left out, up to as much as a jump costs."""
    jump: float = Field(default=10.0, gt=0)
    """Most that a way costs: the object was hit, or is found again somewhere else."""
    noise_sizes: float = Field(default=0.25, gt=0)
    """How exact a place is, in sizes of the object, ..."""
    noise_px: float = Field(default=1.0, gt=0)
    """... and at least."""
    motion: Motion = Motion()
    """How freely the object moves."""


@dataclass(frozen=True)
class Step:
    """A place on a path."""

    frame: int
    place: int
    """Which of the frame's places."""
    xy_px: np.ndarray


@dataclass
class _Ends:
    """The places of one frame, each the end of the best path to it."""

    frame: int
    xy_px: np.ndarray
    """[K, 2], as they were proposed; ``flight`` has them as the path to them says."""
    worth: np.ndarray
    """[K]."""
    flight: Flight
    before: list[tuple["_Ends", int] | None]
    """[K]: the place before it on its path."""

    def step(self, place: int) -> Step:
        return Step(self.frame, place, self.xy_px[place])


class Paths:
    """Live state: the ends of paths in the last frames."""

    def __init__(self, weighing: Weighing, frame: int, flight: Flight) -> None:
        self._weighing = weighing
        self._frame = frame
        first = _Ends(frame, flight.xy_px, np.zeros(1), flight, [None])
        self._ends: deque[_Ends] = deque([first])
        self._best: tuple[_Ends, int] = (first, 0)

    def expected(self, t_s: float, *, size_px: float) -> tuple[np.ndarray, float]:
        """Where the best path goes on to, [2], and how far it may be off."""
        ends, place = self._best
        flight = ends.flight[np.array([place])].at(t_s, self._weighing.motion, size_px=size_px)
        return flight.xy_px[0], float(flight.sigma_px[0])

    @property
    def now(self) -> Step | None:
        """The best path's place in the last frame; None where it leaves that frame out."""
        ends, place = self._best
        return ends.step(place) if ends.frame == self._frame else None

    @property
    def unseen(self) -> int:
        """Frames since the best path's last place."""
        return self._frame - self._best[0].frame

    def moved(self, shift_px: np.ndarray) -> None:
        """Before the next frame: everything at rest has shifted by so much."""
        if shift_px.any():
            for ends in {id(ends): ends for ends in (*self._ends, self._best[0])}.values():
                ends.flight = ends.flight.moved(shift_px)

    def extend(self, frame: int, t_s: float, xy_px: np.ndarray, evidence: np.ndarray, *, size_px: float) -> None:
        """The next frame's places [K, 2], and how much more likely than not each is the object by itself, [K]."""
        weighing, self._frame = self._weighing, frame
        while self._ends and self._ends[0].frame < frame - 1 - weighing.gap:
            self._ends.popleft()
        older = [] if self._best[0] in self._ends else [self._best[0]]
        sources = [*older, *self._ends]
        if len(xy_px):
            self._ends.append(self._reached(sources, frame, t_s, xy_px, evidence, size_px))
            sources.append(self._ends[-1])
        self._best = max(
            ((ends, int(ends.worth.argmax())) for ends in sources),
            key=lambda end: float(end[0].worth[end[1]]) - self._absence(frame - end[0].frame, weighing.change),
        )

    def _absence(self, frames: int, change: float) -> float:
        """The cost of not having seen the object in so many frames."""
        return change + min(frames * self._weighing.missed, self._weighing.jump) if frames else 0.0

    def _reached(
        self, sources: list[_Ends], frame: int, t_s: float, xy_px: np.ndarray, evidence: np.ndarray, size_px: float
    ) -> _Ends:
        weighing = self._weighing
        origin = [(ends, place) for ends in sources for place in range(len(ends.worth))]
        before = together([ends.flight for ends in sources])
        expected = before.at(t_s, weighing.motion, size_px=size_px)
        noise_px = max(weighing.noise_px, weighing.noise_sizes * size_px)
        variance = expected.sigma_px**2 + noise_px**2
        offset = xy_px[None] - expected.xy_px[:, None]  # [M, K, 2]
        way = 0.5 * (np.square(offset).sum(axis=2) / variance[:, None] + np.log(variance / noise_px**2)[:, None])
        absence = np.array([self._absence(frame - 1 - ends.frame, 2 * weighing.change) for ends, _ in origin])
        worth = np.concatenate([ends.worth for ends in sources]) - absence
        total = worth[:, None] - np.minimum(way, weighing.jump)
        chosen, places = total.argmax(axis=0), np.arange(len(xy_px))
        flight = expected[chosen].seen(xy_px, noise_px)
        hit = way[chosen, places] >= weighing.jump
        if hit.any():
            flight = _turned(flight, before[chosen], t_s, xy_px, hit)
        worth = total[chosen, places] + evidence
        return _Ends(frame, xy_px, worth, flight, [origin[i] for i in chosen.tolist()])

    def course(self, since: int) -> dict[int, Step]:
        """The best path's places in frames from ``since`` on, by frame."""
        found: dict[int, Step] = {}
        at: tuple[_Ends, int] | None = self._best
        while at is not None and at[0].frame >= since:
            ends, place = at
            found[ends.frame] = ends.step(place)
            at = ends.before[place]
        return found

    def settle(self, before: int) -> None:
        """Forget how paths came to their places in frames below ``before``: nobody asks any more."""
        for ends in (*self._ends, self._best[0]):
            if ends.frame <= before:
                ends.before = [None] * len(ends.before)


def _turned(flight: Flight, before: Flight, t_s: float, xy_px: np.ndarray, hit: np.ndarray) -> Flight:
    """The flights with those that were ``hit`` [K] restarted: at their place, as fast as the way to it."""
    dt = np.maximum(t_s - before.t_s, 1e-3)[:, None]
    mean, covariance = flight.mean.copy(), flight.covariance.copy()
    way_px = xy_px - before.xy_px
    mean[hit, 0], mean[hit, 1], mean[hit, 2] = xy_px[hit], (way_px / dt)[hit], 0
    speed = np.linalg.norm(way_px, axis=1) / dt[:, 0] + 1
    covariance[hit, 1, 1] = np.maximum(covariance[:, 1, 1], speed**2)[hit]
    return Flight(flight.t_s, mean, covariance)

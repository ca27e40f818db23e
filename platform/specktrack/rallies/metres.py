"""One track's flights on its court: places and speeds in metres, and when the ball is above the net."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from specktrack.datasets.flight import STEP_S
from specktrack.rallies.court import Court
from specktrack.rallies.flights import LEAST_ROWS, LONGEST_S, Fitted, Observed, fit
from specktrack.rallies.rallying import Rally
from specktrack.rallies.smoothing import noise_of
from specktrack.schema import Event

WORST_SHARE = 0.008
"""A flight that stays further than this share of the picture's width from where the ball was seen tells nothing."""


@dataclass(frozen=True)
class Metres:
    """Of N rows where the ball was on the court; NaN where no flight says it."""

    xyz_m: np.ndarray
    """float64 [N, 3]."""
    speed_mps: np.ndarray
    """float64 [N]."""
    speed_sigma_mps: np.ndarray
    """float64 [N]: one standard deviation."""
    flights: "Flights | None" = None

    @classmethod
    def unknown(cls, n: int) -> Self:
        """Nothing about ``n`` rows."""
        return cls(np.full((n, 3), np.nan), np.full(n, np.nan), np.full(n, np.nan))


@dataclass(frozen=True)
class Flights:
    """A track's flights, of which some agree with what was seen."""

    start_s: np.ndarray
    stop_s: np.ndarray
    good: np.ndarray
    """bool [F]: it agrees."""
    fitted: Fitted

    def around(self, at_s: float) -> dict[str, float]:
        """Columns of an event at a time: its place, and the speeds before and after it."""
        before, after = self.ending(at_s), self.beginning(at_s)
        here = after or before
        place = {} if here is None else dict(zip(("x_m", "y_m", "z_m"), here[0].tolist(), strict=True))
        speeds = {"speed_before_mps": before, "speed_after_mps": after}
        return place | {name: state[1] for name, state in speeds.items() if state is not None}

    def beginning(self, at_s: float) -> tuple[np.ndarray, float] | None:
        """Place [3] and speed at the start of the flight that begins or is under way at a time."""
        return self._state(self.good & (self.start_s <= at_s + 1e-6) & (at_s < self.stop_s - 1e-6), at_s)

    def ending(self, at_s: float) -> tuple[np.ndarray, float] | None:
        """Place [3] and speed at the end of the flight that ends or is under way at a time."""
        return self._state(self.good & (self.start_s < at_s - 1e-6) & (at_s <= self.stop_s + 1e-6), at_s)

    def _state(self, among: np.ndarray, at_s: float) -> tuple[np.ndarray, float] | None:
        which = np.flatnonzero(among)[:1]
        if not len(which):
            return None
        place, velocity, _ = self.fitted.at(which, np.array([at_s]) - self.start_s[which])
        return place[0], float(np.linalg.norm(velocity[0]))

    def over_the_net(self, start_s: float, stop_s: float) -> Iterator[float]:
        """Times between two at which a flight changes sides."""
        for f in np.flatnonzero(self.good & (self.start_s >= start_s) & (self.start_s < stop_s)).tolist():
            steps = np.arange(0, self.stop_s[f] - self.start_s[f], STEP_S)
            y = self.fitted.at(np.full(len(steps), f), steps)[0][:, 1]
            for i in np.flatnonzero(y[1:] * y[:-1] < 0)[:1].tolist():
                yield float(self.start_s[f] + steps[i + 1])


@dataclass(frozen=True)
class _Leg:
    """A flight: the part of a rally between two turns."""

    start_s: float
    stop_s: float
    rises: bool
    """It begins with a bounce."""
    lands: bool
    """It ends with one."""


def in_metres(
    court: Court, frame: np.ndarray, time_s: np.ndarray, xy_px: np.ndarray, rallies: Sequence[Rally]
) -> Metres:
    """The flights of a track's ``rallies``: positions [N, 2] px (NaN where absent) in frames [N] at times [N]."""
    assert court.view is not None
    xy_px, cameras = court.view.straightened(xy_px), court.cameras(frame)
    known = np.isfinite(xy_px[:, 0])
    rows = {leg: np.flatnonzero(known & (time_s > leg.start_s) & (time_s < leg.stop_s)) for leg in _legs(rallies)}
    rows = {leg: at for leg, at in rows.items() if len(at) >= LEAST_ROWS}
    start_s, stop_s = np.array([leg.start_s for leg in rows]), np.array([leg.stop_s for leg in rows])
    at = np.concatenate([np.zeros(0, int), *rows.values()])
    flight = np.repeat(np.arange(len(rows)), [len(each) for each in rows.values()])
    seen = Observed(
        flight, time_s[at] - start_s[flight], xy_px[at], max(0.5, noise_of(time_s, xy_px)), cameras[at],
        lands_s=np.where([leg.lands for leg in rows], stop_s - start_s, np.nan),
        rises=np.array([leg.rises for leg in rows], bool),
    )  # fmt: skip
    fitted = fit(seen, court.sport)
    flights = Flights(start_s, stop_s, fitted.error_px <= WORST_SHARE * court.view.size_wh_px[0], fitted)
    result = replace(Metres.unknown(len(time_s)), flights=flights)
    for f in np.flatnonzero(flights.good).tolist():
        inside = np.flatnonzero((time_s >= start_s[f]) & (time_s <= stop_s[f]))
        places, velocities, sigma = fitted.at(np.full(len(inside), f), time_s[inside] - start_s[f])
        result.xyz_m[inside], result.speed_mps[inside] = places, np.linalg.norm(velocities, axis=1)
        result.speed_sigma_mps[inside] = sigma
    return result


def _legs(rallies: Sequence[Rally]) -> Iterator[_Leg]:
    """The legs of all rallies; the last one of each ends with the dead ball."""
    for rally in rallies:
        for turn, after in zip(rally.turns, [*rally.turns[1:], None], strict=True):
            stop_s = rally.stop_s if after is None else after.time_s
            longest_s = turn.time_s + LONGEST_S
            lands = after is not None and after.event is Event.BOUNCE and stop_s <= longest_s
            yield _Leg(turn.time_s, min(stop_s, longest_s), turn.event is Event.BOUNCE, lands)

"""From rows to events: smoothed flights, hits, bounces, rallies and, where the court is known, metres."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from specktrack.errors import ConfigError
from specktrack.frames import Trajectory, trajectories
from specktrack.rallies.court import Court
from specktrack.rallies.metres import Metres, in_metres
from specktrack.rallies.rallying import find_rallies, ruled
from specktrack.rallies.smoothing import smooth
from specktrack.rallies.turns import find_turns
from specktrack.schema import EVENTS, FLIGHTS, Event, Provenance

THRESHOLD = 0.5
_FILLED = (Provenance.INTERPOLATED.value, Provenance.INPAINTED.value)


@dataclass(frozen=True)
class Found:
    """The results of an analysis of rows."""

    events: pa.Table
    """EVENTS, by video and object in the order of time."""
    flights: pa.Table
    """FLIGHTS: one row for each of the rows."""


def analyse(
    rows: pa.Table, *, court: Court | None = None, fps: float | None = None, threshold: float = THRESHOLD
) -> Found:
    """Events and smoothed flights of every object of every video in ``rows``.

    ``court`` names the sport, whose rules help, and with a view gives metres. ``fps`` gives times to rows that have
    none; ``threshold`` is the least likelihood of a hit or a bounce. Positions that were filled into gaps are no
    observations and count for nothing. ConfigError if times do not rise.
    """
    events, flights = [EVENTS.empty_table()], [FLIGHTS.empty_table()]
    for uri, objects in trajectories(rows).items():
        for number, track in objects.items():
            told = _Told(_timed(track, fps, uri), court, threshold)
            events.append(told.events(uri, number))
            flights.append(told.flights(uri, number))
    return Found(pa.concat_tables(events).combine_chunks(), pa.concat_tables(flights).combine_chunks())


def events(
    rows: pa.Table, *, court: Court | None = None, fps: float | None = None, threshold: float = THRESHOLD
) -> pa.Table:
    """Hits, bounces, net crossings and rallies in ``rows``, as EVENTS; ``analyse`` gives smoothed flights as well."""
    return analyse(rows, court=court, fps=fps, threshold=threshold).events


def _timed(track: Trajectory, fps: float | None, uri: str) -> Trajectory:
    """The track with times of its own or at ``fps``."""
    if fps is not None:
        track = Trajectory(track.frame, track.frame / fps, *(getattr(track, name) for name in _OTHER_COLUMNS))
    if (np.diff(track.pts_s) <= 0).any():
        raise ConfigError("the times of the rows do not increase", place=uri, remedy="give the frame rate: --fps 30")
    return track


_OTHER_COLUMNS = ("xy_px", "score", "visibility", "provenance", "wh_px", "gap")


class _Told:
    """The results for one object's track."""

    def __init__(self, track: Trajectory, court: Court | None, threshold: float) -> None:
        seen = track.present & ~np.isin(track.provenance, _FILLED)
        self._track, self._xy_px = track, np.where(seen[:, None], track.xy_px, np.nan).astype(float)
        turns = find_turns(*self._evenly(), threshold=threshold)
        volleyed = court is not None and not court.sport.hit_after_bounce
        turns = ruled(turns) if volleyed else turns
        self._rallies = find_rallies(turns, track.pts_s[seen], bounces=0 if volleyed else 1)
        self._turns = turns
        self._smooth = smooth(track.pts_s, self._xy_px, np.array([turn.time_s for turn in turns]))
        self._metres = None
        if court is not None and court.view is not None:
            self._metres = in_metres(court, track.frame, track.pts_s, self._xy_px, self._rallies)

    def _evenly(self) -> tuple[np.ndarray, np.ndarray]:
        """Times and positions of all frames from the first row's to the last one's, also of those without a row."""
        frame = self._track.frame
        if not len(frame):
            return np.zeros(0), np.zeros((0, 2))
        every = np.arange(frame[0], frame[-1] + 1)
        xy_px = np.full((len(every), 2), np.nan)
        xy_px[frame - frame[0]] = self._xy_px
        return np.interp(every, frame, self._track.pts_s), xy_px

    def flights(self, uri: str, number: int) -> pa.Table:
        """FLIGHTS."""
        n, smoothed = len(self._track), self._smooth
        metres = self._metres or Metres.unknown(n)
        number_of = np.full(n, -1)
        for i, rally in enumerate(self._rallies):
            number_of[(self._track.pts_s >= rally.start_s) & (self._track.pts_s <= rally.stop_s)] = i
        numbers = [
            *smoothed.xy_px.T, smoothed.sigma_px, *smoothed.velocity_px_s.T, smoothed.speed_px_s,
            *metres.xyz_m.T, metres.speed_mps, metres.speed_sigma_mps,
        ]  # fmt: skip
        return pa.table(
            [
                pa.array([uri] * n, pa.string()),
                pa.array(self._track.frame),
                pa.array(self._track.pts_s),
                pa.array(np.full(n, number, np.int32)),
                pa.array(number_of.astype(np.int32), mask=number_of < 0),
                *(pa.array(column.astype(np.float32), mask=np.isnan(column)) for column in numbers),
            ],
            schema=FLIGHTS,
        )

    def events(self, uri: str, number: int) -> pa.Table:
        """EVENTS."""
        rally_of = {turn: i for i, rally in enumerate(self._rallies) for turn in rally.turns}
        told = [self._row(turn.event, turn.time_s, rally_of.get(turn), turn.score) for turn in self._turns]
        for i, rally in enumerate(self._rallies):
            told.append(self._row(Event.RALLY_START, rally.start_s, i, rally.score))
            if self._metres is not None:
                assert self._metres.flights is not None
                crossings = self._metres.flights.over_the_net(rally.start_s, rally.stop_s)
                told += [self._row(Event.NET, at_s, i, rally.score) for at_s in crossings]
            told.append(self._row(Event.RALLY_END, rally.stop_s, i, rally.score))
        order = list(Event)
        told.sort(key=lambda row: (row["time_s"], order.index(Event(row["event"]))))
        told = [{**dict.fromkeys(EVENTS.names), "video": uri, "object": number, **row} for row in told]
        return pa.Table.from_pylist(told, schema=EVENTS)

    def _row(self, event: Event, at_s: float, rally: int | None, score: float) -> dict[str, Any]:
        """One event, as a mapping of the columns that are known."""
        time_s = self._track.pts_s
        before = max(0, int(np.searchsorted(time_s, at_s, "right")) - 1)
        after = min(before + 1, len(time_s) - 1)
        nearest = before if at_s - time_s[before] <= time_s[after] - at_s else after
        passed = at_s - time_s[before]
        x, y = self._smooth.xy_px[before] + passed * np.nan_to_num(self._smooth.velocity_px_s[before])
        speed = self._smooth.speed_px_s
        numbers = {
            "x": x, "y": y, "sigma_px": self._smooth.sigma_px[nearest], "score": score,
            "speed_before_px_s": speed[before], "speed_after_px_s": speed[after],
        }  # fmt: skip
        if self._metres is not None and self._metres.flights is not None:
            numbers |= self._metres.flights.around(at_s)
        known = {name: float(value) for name, value in numbers.items() if np.isfinite(value)}
        return {
            "event": event.value, "frame": int(self._track.frame[nearest]), "time_s": at_s, "rally": rally, **known,
        }  # fmt: skip

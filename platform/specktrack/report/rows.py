"""The page about rows: what was found in which video, how surely, how fast, what happened, and where to look first."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specktrack.errors import ConfigError
from specktrack.frames import Trajectory, trajectories
from specktrack.rallies import Found, analyse
from specktrack.report import drawing, page
from specktrack.report.stills import piece, stills
from specktrack.schema import Event, Provenance
from specktrack.storage import MissingError, local_path, open_store, to_uri

UNSURE = 30
"""Rows listed as the least certain."""
SHOWN = 12
"""Of them those that are shown, each at least so many seconds from the others of its video."""
APART_S = 1.0
RALLIES = 12
"""Rallies of one video that are drawn."""
RING, BOUNCED, STRUCK = "#ffd60a", drawing.COLOURS[4], drawing.COLOURS[1]


@dataclass(frozen=True)
class _Video:
    """One object of one video with what the page says about it."""

    uri: str
    name: str
    """For tables."""
    track: Trajectory
    number: int

    @property
    def gaps(self) -> np.ndarray:
        """Lengths of the runs of absent frames."""
        return self.gap_spans[:, 1] - self.gap_spans[:, 0]

    @property
    def gap_spans(self) -> np.ndarray:
        """Rows [start, stop) of the runs of absent frames, int [G, 2]."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (~self.track.present).astype(np.int8), [0]])))
        return edges.reshape(-1, 2)

    @property
    def speed(self) -> np.ndarray:
        """Source px per frame between neighbouring frames, NaN elsewhere, [N - 1]."""
        way = np.linalg.norm(np.diff(self.track.xy_px, axis=0), axis=1)
        return np.where(np.diff(self.track.frame) == 1, way, np.nan)

    @property
    def filled(self) -> np.ndarray:
        """bool [N]: the position was put into a gap."""
        return np.isin(self.track.provenance, (Provenance.INTERPOLATED.value, Provenance.INPAINTED.value))

    @property
    def size_wh_px(self) -> tuple[float, float]:
        """Of the picture, as far as positions reach."""
        width, height = (float(v) for v in np.nanmax(self.track.xy_px, axis=0) * 1.03 + 1)
        return max(width, 16.0), max(height, 9.0)

    @cached_property
    def told(self) -> Found | None:
        """Its events and smoothed flights; None where rows have no times."""
        try:
            return analyse(self.track.to_rows(self.uri))
        except ConfigError:
            return None


def rows_page(rows: pa.Table, source: str, *, drawn: int, pictures: bool = True) -> str:
    """The page; the ``drawn`` videos with the smallest share of frames in which something was found are drawn."""
    videos = _videos(rows)
    present = sum(int(video.track.present.sum()) for video in videos)
    filled = sum(int(video.filled.sum()) for video in videos)
    scores = np.concatenate([np.zeros(0), *(video.track.score[video.track.present] for video in videos)])
    speeds = np.concatenate([np.zeros(0), *(video.speed for video in videos)])
    worst = sorted(videos, key=lambda video: float(video.track.present.mean()))
    unsure = _unsure(videos)
    return page.document(
        f"Rows of {len({video.uri for video in videos})} videos",
        source,
        page.cards(
            {
                "frames": len(rows),
                "present": page.percent(present / len(rows)) if len(rows) else None,
                "filled in": filled,
                "gaps": sum(len(video.gaps) for video in videos),
                "median score": _median(scores),
                "median speed, px/frame": _median(speeds),
            }
        ),
        page.section(
            "Least certain moments", page.strip(list(_filmstrip(unsure if pictures else []))), _unsure_table(unsure),
            note="Where a row is most likely to be wrong.",
        ),
        page.section("Scores, speeds and gaps", *_histograms(videos, scores, speeds)),
        page.section(
            "Gaps", _gap_timeline(worst[:drawn]), note="Blue: a position was found; yellow: one was filled in."
        ),
        page.section("Time", _stages(source), note="Seconds per stage, summed over the workers."),
        page.section("Videos", _table(worst), note="Videos with the smallest share of frames with a position first."),
        page.section(
            "Trajectories and rallies", *(part for video in worst[:drawn] for part in _drawings(video)),
            note=f"{min(drawn, len(worst))} of {len(worst)}, in the order of the table. Early is dark, late is bright. "
            "Hits and bounces are found from the rows alone.",
        ),
    )  # fmt: skip


def _videos(rows: pa.Table) -> list[_Video]:
    found = trajectories(rows)
    names = page.short_names(list(found))
    return [
        _Video(uri, names[uri] if not number else f"{names[uri]} (object {number})", track, number)
        for uri, tracks in found.items()
        for number, track in tracks.items()
    ]


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else None


def _histograms(videos: list[_Video], score: np.ndarray, speed: np.ndarray) -> list[str]:
    gaps = np.concatenate([np.zeros(0), *(video.gaps for video in videos)])
    top = float(np.nanpercentile(speed, 99.5)) if (~np.isnan(speed)).any() else 1.0
    drawings = {
        "Scores of positions": drawing.histogram(score, edges=np.linspace(0, 1, 26), x_label="score"),
        "Speed": drawing.histogram(
            speed, edges=np.linspace(0, np.ceil(max(1.0, top) / 10) * 10, 31), x_label="source px per frame"
        ),
        "Gaps": drawing.histogram(gaps, edges=np.arange(0, 61, 2), x_label="frames without a position"),
    }
    return [page.figure(drawn, name) for name, drawn in drawings.items()]


def _table(videos: list[_Video]) -> str:
    lines = []
    for video in videos:
        track, gaps = video.track, video.gaps
        lines.append(
            [
                video.name, len(track), page.percent(float(track.present.mean())), int(video.filled.sum()), len(gaps),
                int(gaps.max()) if len(gaps) else 0, _median(track.score[track.present]), _median(video.speed),
            ]
        )  # fmt: skip
    head = ["video", "frames", "present", "filled in", "gaps", "longest gap", "median score", "median px/frame"]
    return page.table(head, lines)


def _unsure(videos: list[_Video]) -> list[tuple[float, _Video, int]]:
    """Score, video and row of the present rows with the lowest scores."""
    found: list[tuple[float, _Video, int]] = []
    for video in videos:
        known = np.flatnonzero(video.track.present & ~np.isnan(video.track.score))
        lowest = known[np.argsort(video.track.score[known], kind="stable")[:UNSURE]]
        found += [(float(video.track.score[i]), video, int(i)) for i in lowest]
    return sorted(found, key=lambda item: item[0])[:UNSURE]


def _unsure_table(unsure: list[tuple[float, _Video, int]]) -> str:
    lines = []
    for score, video, i in unsure:
        track = video.track
        x, y = map(float, track.xy_px[i])
        place = [f"{track.pts_s[i]:.2f} s", x, y, score, str(track.provenance[i])]
        lines.append([video.name, int(track.frame[i]), *place])
    return page.table(["video", "frame", "time", "x px", "y px", "score", "provenance"], lines)


def _filmstrip(unsure: list[tuple[float, _Video, int]]) -> Iterator[str]:
    """Pictures of the least certain moments, with a ring around the row's position."""
    chosen: list[tuple[float, _Video, int]] = []
    for score, video, i in unsure:
        times_s = [other.track.pts_s[k] for _, other, k in chosen if other is video]
        if all(abs(video.track.pts_s[i] - time_s) >= APART_S for time_s in times_s):
            chosen.append((score, video, i))
    chosen = chosen[:SHOWN]
    wanted: dict[str, list[int]] = {}
    for _, video, i in chosen:
        wanted.setdefault(video.uri, []).append(int(video.track.frame[i]))
    pictures = stills(wanted)
    for score, video, i in chosen:
        frame, at_px = int(video.track.frame[i]), video.track.xy_px[i]
        if (video.uri, frame) in pictures:
            told = f"{video.name}, frame {frame}, score {score:.2f}"
            yield page.picture(piece(pictures[video.uri, frame], at_px, [(at_px, RING)]), told, f"the ball in {told}")


def _gap_timeline(videos: list[_Video]) -> str:
    """When a position was found, and when one was filled in, in each video."""
    rows, stop = {}, 0.0
    for video in videos:
        track = video.track
        step_s = float(np.median(np.diff(track.pts_s))) if len(track) > 1 else 1.0
        spans: list[tuple[float, float, str]] = []
        for where, colour in (
            (track.present & ~video.filled, drawing.COLOURS[0]),
            (video.filled, drawing.COLOURS[4]),
        ):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))).reshape(-1, 2)
            spans += [
                (float(track.pts_s[a]), float(track.pts_s[b - 1] - track.pts_s[a] + step_s), colour) for a, b in edges
            ]
        rows[video.name] = spans
        stop = max(stop, float(track.pts_s[-1]) + step_s)
    return page.figure(drawing.timeline(rows, x_label="s", stop=stop), "when the object was found")


def _stages(source: str) -> str:
    """Stage times, where the source is an output of annotate."""
    uri = to_uri(source)
    path = local_path(uri)
    if path is not None and not path.is_dir():
        return ""
    try:
        seconds = json.loads(open_store(uri).get("run.json"))["report"]["seconds"]
    except (MissingError, LookupError, TypeError, ValueError):  # rows from elsewhere, or a run that has not finished
        return ""
    return page.figure(drawing.bars(seconds, x_label="s"), "time by stage")


def _drawings(video: _Video) -> Iterator[str]:
    """One video's path, where it was, how fast, and its rallies."""
    track = video.track
    if not track.present.any():
        yield page.subsection(video.name, page.doubt("No position in any frame."))
        return
    yield page.subsection(
        video.name,
        page.figure(drawing.path_plot([track.xy_px], video.size_wh_px), "path in the picture"),
        page.figure(
            drawing.heatmap(track.xy_px, video.size_wh_px), "positions of the object; brighter is more frequent"
        ),
        page.figure(drawing.line_plot(_positions(video), x_label="frame", y_label="source px"), "position by frame"),
        _speed_profile(video),
        *_rallies(video),
    )


def _positions(video: _Video) -> list[drawing.Line]:
    lines = []
    for i, name in enumerate("xy"):
        seen = np.where(video.filled, np.nan, video.track.xy_px[:, i])
        lines.append(drawing.Line(name, video.track.frame, seen, drawing.COLOURS[i]))
        if video.filled.any():
            put = np.where(video.filled, video.track.xy_px[:, i], np.nan)
            lines.append(drawing.Line(f"{name}, filled in", video.track.frame, put, drawing.COLOURS[4 + i], dots=True))
    return lines


def _moments(events: pa.Table, *kinds: Event) -> pa.Table:
    return events.filter(pc.is_in(events["event"].cast(pa.string()), pa.array([kind.value for kind in kinds])))


def _speed_profile(video: _Video) -> str:
    """Smoothed speed with hits and bounces."""
    if video.told is None:
        return ""
    flights, events = video.told.flights, video.told.events
    speed = flights["speed_px_s"].to_numpy(zero_copy_only=False).astype(float)
    marks = {
        "hits": (_moments(events, Event.HIT, Event.SERVE)["time_s"].to_numpy(), STRUCK),
        "bounces": (_moments(events, Event.BOUNCE)["time_s"].to_numpy(), BOUNCED),
    }
    drawn = drawing.line_plot(
        [drawing.Line("speed", flights["pts_s"].to_numpy(), speed)], x_label="s", y_label="px per s", marks=marks
    )
    return page.figure(drawn, "speed, smoothed")


def _rallies(video: _Video) -> Iterator[str]:
    """The path of each rally with its hits and bounces."""
    if video.told is None:
        return
    flights, events = video.told.flights, video.told.events
    for number in pc.unique(events["rally"].drop_null()).to_pylist()[:RALLIES]:
        part, mine = (table.filter(pc.equal(table["rally"], number)) for table in (flights, events))
        way, struck, bounced = (
            np.stack([table[axis].to_numpy(zero_copy_only=False).astype(float) for axis in "xy"], axis=1)
            for table in (part, _moments(mine, Event.HIT, Event.SERVE), _moments(mine, Event.BOUNCE))
        )
        marks = {"hits": (struck, STRUCK), "bounces": (bounced, BOUNCED)}
        times = mine["time_s"].to_numpy()
        told = f"rally {number}: {times.min():.2f} to {times.max():.2f} s, {len(struck)} hits, {len(bounced)} bounces"
        yield page.figure(drawing.path_plot([way], video.size_wh_px, marks=marks, width_px=300), told)

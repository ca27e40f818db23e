"""The page about rows: what was found in which video, how surely, how fast, and where to look first."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from specktrack.frames import Trajectory, trajectories
from specktrack.report import page
from specktrack.schema import Provenance

UNSURE = 30
"""Rows listed as the least certain."""


@dataclass(frozen=True)
class _Video:
    """One object of one video with what the tables say about it."""

    uri: str
    name: str
    """For tables."""
    track: Trajectory

    @property
    def gaps(self) -> np.ndarray:
        """Lengths of the runs of absent frames."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (~self.track.present).astype(np.int8), [0]])))
        return edges[1::2] - edges[::2]

    @property
    def speed(self) -> np.ndarray:
        """Source px per frame between neighbouring frames, NaN elsewhere, [N - 1]."""
        way = np.linalg.norm(np.diff(self.track.xy_px, axis=0), axis=1)
        return np.where(np.diff(self.track.frame) == 1, way, np.nan)

    @property
    def filled(self) -> np.ndarray:
        """bool [N]: the position was put into a gap."""
        return np.isin(self.track.provenance, (Provenance.INTERPOLATED.value, Provenance.INPAINTED.value))


def rows_page(rows: pa.Table, source: str, *, drawn: int) -> str:
    """The page; the ``drawn`` videos with the smallest share of frames in which something was found are drawn."""
    videos = _videos(rows)
    present = sum(int(video.track.present.sum()) for video in videos)
    filled = sum(int(video.filled.sum()) for video in videos)
    scores = np.concatenate([np.zeros(0), *(video.track.score[video.track.present] for video in videos)])
    speeds = np.concatenate([np.zeros(0), *(video.speed for video in videos)])
    worst = sorted(videos, key=lambda video: float(video.track.present.mean()))
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
        page.section("How sure, how fast, how long away", *_histograms(videos, scores, speeds)),
        page.section("Videos", _table(worst), note="The smallest share of frames with a position comes first."),
        page.section("Least certain positions", _unsure(videos), note="Where a wrong row is most likely."),
        page.section(
            "Trajectories", *(_drawing(video) for video in worst[:drawn]),
            note=f"{min(drawn, len(worst))} of {len(worst)}, in the order of the table. Early is dark, late is bright.",
        ),
    )  # fmt: skip


def _videos(rows: pa.Table) -> list[_Video]:
    found = trajectories(rows)
    names = page.short_names(list(found))
    return [
        _Video(uri, names[uri] if not number else f"{names[uri]} (object {number})", track)
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
        "Scores of positions": page.histogram(score, edges=np.linspace(0, 1, 26), x_label="score"),
        "Speed": page.histogram(
            speed, edges=np.linspace(0, np.ceil(max(1.0, top) / 10) * 10, 31), x_label="source px per frame"
        ),
        "Gaps": page.histogram(gaps, edges=np.arange(0, 61, 2), x_label="frames without a position"),
    }
    return [page.figure(drawing, name) for name, drawing in drawings.items() if drawing]


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


def _unsure(videos: list[_Video]) -> str:
    """The present rows with the lowest scores."""
    found: list[tuple[float, _Video, int]] = []
    for video in videos:
        known = np.flatnonzero(video.track.present & ~np.isnan(video.track.score))
        lowest = known[np.argsort(video.track.score[known], kind="stable")[:UNSURE]]
        found += [(float(video.track.score[i]), video, int(i)) for i in lowest]
    found.sort(key=lambda item: item[0])
    lines = []
    for score, video, i in found[:UNSURE]:
        track = video.track
        x, y = map(float, track.xy_px[i])
        place = [f"{track.pts_s[i]:.2f} s", x, y, score, str(track.provenance[i])]
        lines.append([video.name, int(track.frame[i]), *place])
    return page.table(["video", "frame", "time", "x px", "y px", "score", "provenance"], lines)


def _drawing(video: _Video) -> str:
    track = video.track
    if not track.present.any():
        return page.subsection(video.name, page.doubt("No position in any frame."))
    size = tuple(float(v) for v in np.nanmax(track.xy_px, axis=0) * 1.03 + 1)
    lines = []
    for i, name in enumerate("xy"):
        seen = np.where(video.filled, np.nan, track.xy_px[:, i])
        lines.append(page.Line(name, track.frame, seen, page.COLOURS[i]))
        if video.filled.any():
            put = np.where(video.filled, track.xy_px[:, i], np.nan)
            lines.append(page.Line(f"{name}, filled in", track.frame, put, page.COLOURS[4], dots=True))
    return page.subsection(
        video.name,
        page.figure(page.path_plot(track.xy_px, (size[0], size[1])), "path in the picture"),
        page.figure(page.line_plot(lines, x_label="frame", y_label="source px"), "position by frame"),
    )

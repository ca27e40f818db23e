"""Proposals of a heatmap network: the peaks of every frame, once its windows have seen it.

Sessions of several objects share one feed. If the network is a finder, frames arrive at source size and are resized
here; if it follows alone, they arrive at the network's size.
"""

# K places

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from specktrack.frames import FrameBatch, Viewport
from specktrack.schema import Box
from specktrack.tracking.candidates import Expected, Picture, Places
from specktrack.tracking.windowed.interleaved import InterleavedSession, frames_apart
from specktrack.tracking.windowed.session import WindowedSession, WindowedTracker

LOOK = 5
"""Side of a look, in cells."""


class HeatmapFeed:
    """Live state of one network on one video: the peaks of frames that nobody has asked about yet."""

    def __init__(self, tracker: WindowedTracker) -> None:
        self._tracker = tracker
        self._session: WindowedSession | InterleavedSession | None = None
        self._waiting: list[FrameBatch] = []  # until two frames say how far apart they are
        self._viewport: Viewport | None = None
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._ended = False
        self.threshold = tracker.config.choice.threshold / 2
        """Score that says nothing: half of what an object needs that no prompt speaks for."""

    def push(self, batch: FrameBatch) -> None:
        """Take frames, at any size."""
        if self._viewport is None:
            self._viewport = self._tracker.viewport(batch.viewport.source_wh_px)
        batch = _resized(batch, self._viewport)
        if self._session is not None:
            self._session.push(batch)
            return
        self._waiting.append(batch)
        if sum(map(len, self._waiting)) > 1:
            self._open()

    def finish(self) -> None:
        """No more come: the last windows run."""
        if self._session is None and self._waiting:
            self._open()
        if self._session is not None:
            self._session.finish()
        self._ended = True

    def has(self, frame: int) -> bool:
        """Whether a frame's windows have all run; at the end of a video they have."""
        return self._ended or frame in self._found

    def of(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Peaks [K, 2] in source px (NaN if there are fewer) and their scores [K]."""
        return self._found[frame]

    def forget(self, before: int) -> None:
        """Nobody asks any more about frames below ``before``."""
        for frame in [frame for frame in self._found if frame < before]:
            del self._found[frame]

    def _open(self) -> None:
        times_s = np.concatenate([batch.pts_s for batch in self._waiting])
        apart_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
        every = frames_apart(1 / apart_s, self._tracker.step_s) if apart_s > 0 else 1
        phases = [self._tracker.watched(partial(self._keep, every, phase)) for phase in range(every)]
        self._session = phases[0] if every == 1 else InterleavedSession(phases)
        for batch in self._waiting:
            self._session.push(batch)
        self._waiting = []

    def _keep(self, every: int, phase: int, frame: np.ndarray, xy_px: np.ndarray, score: np.ndarray) -> None:
        for each, xy, of in zip((frame * every + phase).tolist(), xy_px, score, strict=True):
            self._found[each] = xy, of


@dataclass(frozen=True)
class _Look:
    """Colours of a place relative to what surrounds it: [LOOK, LOOK, 3], and how much they vary there."""

    cells: np.ndarray
    contrast: float

    @classmethod
    def at(cls, picture: Picture, xy_px: np.ndarray, wh_px: tuple[float, float]) -> "_Look":
        x, y = picture.viewport.to_network(xy_px)
        w, h = np.maximum(np.array(wh_px) * picture.viewport.scale, 3)
        steps = (np.arange(LOOK) - LOOK // 2) / (LOOK - 1)
        inner, ring = _sampled(picture.pixels, x + steps * w, y + steps * h), _ring(picture.pixels, x, y, w, h)
        cells = inner - np.median(ring, axis=0)
        return cls(cells, float(np.abs(cells).max()) + 10.0)

    def unlike(self, other: "_Look") -> float:
        """How different the other is, from 0 to about 1."""
        return float(np.abs(self.cells - other.cells).mean() / max(self.contrast, other.contrast)) * 2


class HeatmapCandidates:
    """A feed's peaks as one object's candidates, those less likely that look unlike its prompt and its last looks."""

    def __init__(self, feed: HeatmapFeed) -> None:
        self._feed = feed
        self._wh_px = (0.0, 0.0)
        self._first: _Look | None = None
        self._recent: _Look | None = None

    def begin(self, picture: Picture, box: Box) -> float:
        """See Candidates: it knows an object whose prompt holds one of its peaks."""
        self._wh_px = (box.w_px, box.h_px)
        self._first = self._recent = _Look.at(picture, np.array([box.cx_px, box.cy_px]), self._wh_px)
        xy_px, score = self._feed.of(picture.frame)
        reach = np.maximum(np.array(self._wh_px) / 2, 2.0)
        held = (np.abs(xy_px - [box.cx_px, box.cy_px]) <= reach).all(axis=1) & (score >= self._feed.threshold)
        return 1.0 if held.any() else 0.0

    def propose(self, picture: Picture, expected: Expected, hints_px: np.ndarray) -> Places:
        """See Candidates."""
        xy_px, score = self._feed.of(picture.frame)
        places = Places.scored(xy_px, score, threshold=self._feed.threshold)
        assert self._first is not None and self._recent is not None
        looks = [_Look.at(picture, xy, self._wh_px) for xy in places.xy_px]
        doubt = np.array([min(self._first.unlike(look), self._recent.unlike(look)) for look in looks])
        return replace(places, evidence=places.evidence - doubt)

    def confirm(self, picture: Picture, xy_px: np.ndarray) -> None:
        """See Candidates: the last look is what it looked like in about the last five frames."""
        look, recent = _Look.at(picture, xy_px, self._wh_px), self._recent
        assert recent is not None
        self._recent = _Look(recent.cells + 0.2 * (look.cells - recent.cells), look.contrast)


def _sampled(pixels_HWC: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    columns = np.clip(np.round(xs).astype(int), 0, pixels_HWC.shape[1] - 1)
    rows = np.clip(np.round(ys).astype(int), 0, pixels_HWC.shape[0] - 1)
    return pixels_HWC[rows[:, None], columns].astype(np.float32)


def _ring(pixels_HWC: np.ndarray, x: float, y: float, w: float, h: float) -> np.ndarray:
    """[16, 3]: what lies around a box, a whole side away from its centre."""
    angle = np.arange(16) * (np.pi / 8)
    columns = np.clip(np.round(x + (w + 2) * np.cos(angle)).astype(int), 0, pixels_HWC.shape[1] - 1)
    rows = np.clip(np.round(y + (h + 2) * np.sin(angle)).astype(int), 0, pixels_HWC.shape[0] - 1)
    return pixels_HWC[rows, columns].astype(np.float32)


def _resized(batch: FrameBatch, viewport: Viewport) -> FrameBatch:
    if batch.viewport == viewport:
        return batch
    kernel = Image.Resampling.BOX if viewport.scale.max() < 1 else Image.Resampling.BILINEAR

    def small(pixels_HWC: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels_HWC).resize(viewport.network_wh_px, kernel))

    background = None if batch.background is None else small(batch.background)
    return FrameBatch(np.stack([small(p) for p in batch.pixels]), batch.frame, batch.pts_s, viewport, background)

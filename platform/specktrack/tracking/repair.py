"""Filling gaps of a trajectory. Only rows without a position are ever filled, and they say so.

A filled row has provenance ``interpolated`` or ``inpainted``, visibility ``occluded`` (nothing was seen there) and the
length of its gap. Gaps longer than ``max_gap`` stay, so a row depends on frames at most ``reach`` away: repairing keeps
the promise that rows do not depend on how a video is cut. Without a limit, as TrackNetV3 fills, they depend on all, so
the video stays one clip.
"""

# N frames, T frames in window

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from pydantic import Field, SerializeAsAny

from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, concat
from specktrack.models.checkpoint import Model, load_model
from specktrack.models.repair.entries import REPAIRS
from specktrack.models.repair.inpaint import InpaintNet
from specktrack.schema import Prompt, Provenance, Visibility
from specktrack.tracking.wrapper import TrackerWrapper

if TYPE_CHECKING:
    from specktrack.tracking.tracker import Session, Tracker

RULE_HEIGHT = 288
"""Picture height at which TrackNetV3 measures how far from the top edge a gap must begin and end."""
ORIGIN_SHARE = 50 / float(np.hypot(512, 288))
"""TrackNetV3's COOR_TH: an inpainted position nearer to the top left corner than this, in both coordinates and as a
share of the picture, means that there is none."""


class Repair(Protocol):
    """One way to fill gaps."""

    @property
    def config(self) -> Config:
        """Settings that change the filled rows."""
        ...

    @property
    def reach(self) -> int | None:
        """Frames on either side that a filled row depends on; None: on all."""
        ...

    def fill(self, rows: Trajectory, wh_px: tuple[int, int]) -> Trajectory:
        """``rows`` of consecutive frames of a picture of ``wh_px`` with gaps filled; other rows stay as they are."""
        ...


def make_repair(name: str, *, gap: int | None = None) -> Repair | None:
    """The repair called ``none``, ``ballistic`` or ``inpaintnet``, or that of a checkpoint of a repair network.

    ``gap`` is the longest gap to fill, in place of the repair's own; 0 sets no limit. Raises ConfigError if the weights
    are of a network that repairs nothing, CheckpointError if there are none.
    """
    limit: dict[str, Any] = {} if gap is None else {"max_gap": gap or None}
    if name in REPAIRS:
        return Ballistic(BallisticConfig(**limit)) if name == "ballistic" else None
    model = load_model(name)
    if model.config.family != "repair":
        raise ConfigError("this model does not repair trajectories", name, remedy="none, ballistic or inpaintnet")
    return Inpainting(model, **limit)


@dataclass(frozen=True)
class Gap:
    """Rows [start, stop) without a position, between rows that have one or at an end of the trajectory."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def within(self, frames: int | None) -> bool:
        """Whether it is no longer than so many; None: than any number."""
        return frames is None or len(self) <= frames


def gaps(present: np.ndarray) -> list[Gap]:
    """The gaps of a trajectory, in order; ``present`` is bool [N]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], present, [True]]).astype(np.int8)))
    return [Gap(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


class BallisticConfig(Config):
    """Fills a gap with the smooth flight that continues both of its ends."""

    name: str = "ballistic"
    max_gap: int | None = Field(default=8, ge=1)
    """Longest gap that is filled, frames; None: any."""
    context: int = Field(default=3, ge=2)
    """Frames on either side that say how fast the object flies where the gap begins and ends."""


class Ballistic:
    """A cubic per coordinate with the positions and velocities at both ends of a gap.

    Gravity is in it exactly, drag to first order; nothing is extrapolated, so gaps at either end of a video stay.
    """

    def __init__(self, config: BallisticConfig | None = None) -> None:
        self.config = config or BallisticConfig()

    @property
    def reach(self) -> int | None:
        """See Repair."""
        return None if self.config.max_gap is None else self.config.max_gap + self.config.context

    def fill(self, rows: Trajectory, wh_px: tuple[int, int]) -> Trajectory:
        """``rows`` with every inner gap of at most ``max_gap`` frames filled."""
        seen, filled = rows.xy_px.astype(float), []
        xy_px = seen.copy()
        for gap in gaps(rows.present):
            if gap.within(self.config.max_gap) and gap.start > 0 and gap.stop < len(rows):
                filled.append(gap)
                xy_px[gap.start : gap.stop] = flight(seen, gap, self.config.context)
        return with_filled(rows, xy_px, filled, Provenance.INTERPOLATED)


def flight(xy: np.ndarray, gap: Gap, context: int) -> np.ndarray:
    """Positions [len(gap), 2] on the cubic that leaves and meets the trajectory ``xy`` [N, 2] with its velocities.

    Velocities are measured a little before and after the gap; the mean acceleration in between carries them to its
    ends. A flight under constant acceleration comes out exactly.
    """
    first, last = gap.start - 1, gap.stop
    steps = last - first
    begin = max(0, gap.start - context)
    before, after = _velocity(xy[begin : gap.start], begin), _velocity(xy[last : last + context], last)
    if before is None or after is None:
        return xy[first] + (xy[last] - xy[first]) * (np.arange(1, steps) / steps)[:, None]
    (leaving, left), (meeting, met) = before, after
    acceleration = (meeting - leaving) / (met - left)
    leaving, meeting = leaving + acceleration * (first - left), meeting + acceleration * (last - met)
    s = (np.arange(1, steps) / steps)[:, None]
    return (
        (2 * s**3 - 3 * s**2 + 1) * xy[first]
        + (s**3 - 2 * s**2 + s) * steps * leaving
        + (3 * s**2 - 2 * s**3) * xy[last]
        + (s**3 - s**2) * steps * meeting
    )


def _velocity(xy: np.ndarray, start: int) -> tuple[np.ndarray, float] | None:
    """Least-squares velocity [2], px per frame, of positions ``xy`` [M, 2] of frames from ``start`` on, and its time.

    None where fewer than two frames have a position.
    """
    t = np.flatnonzero(~np.isnan(xy[:, 0]))
    if len(t) < 2:
        return None
    centred = t - t.mean()
    return (centred[:, None] * xy[t]).sum(axis=0) / (centred**2).sum(), start + float(t.mean())


class InpaintingConfig(Config):
    """Fills gaps of an object that was hidden, not out of the picture, as TrackNetV3 does."""

    name: str
    """Name of the weights."""
    weights_sha256: str
    max_gap: int | None = Field(default=16, ge=1)
    """Longest gap that is filled, frames; None: any, as published."""
    margin_px: float = Field(default=30.0, ge=0)
    """A gap is filled if the object is lower than this, at a picture height of 288 px, where it begins and ends."""


class Inpainting:
    """Gaps filled by a repair network: every window of T frames that sees a gap, and the mean of what they say."""

    def __init__(self, model: Model, *, max_gap: int | None = 16, margin_px: float = 30.0) -> None:
        assert isinstance(model.network, InpaintNet)
        self.config = InpaintingConfig(
            name=model.card.name, weights_sha256=model.card.weights_sha256, max_gap=max_gap, margin_px=margin_px
        )
        self._network = model.network.eval()
        self._T = model.config.frames_in

    @property
    def reach(self) -> int | None:
        """See Repair."""
        return None if self.config.max_gap is None else self.config.max_gap + self._T - 1

    def fill(self, rows: Trajectory, wh_px: tuple[int, int]) -> Trajectory:
        """``rows`` with the gaps of hidden objects filled."""
        hidden = [
            gap
            for gap in hidden_gaps(rows, margin_px=self.config.margin_px * wh_px[1] / RULE_HEIGHT)
            if gap.within(self.config.max_gap)
        ]
        if not hidden:
            return rows
        mask = np.zeros(len(rows), bool)
        for gap in hidden:
            mask[gap.start : gap.stop] = True
        xy = np.nan_to_num(rows.xy_px / wh_px, nan=0.0).astype(np.float32)
        guess = ensemble(lambda starts: self._windows(xy, mask, starts), mask, self._T)
        xy_px = np.where((guess == 0).all(axis=1, keepdims=True), np.nan, guess * wh_px)
        return with_filled(rows, np.where(mask[:, None], xy_px, rows.xy_px), hidden, Provenance.INPAINTED)

    @torch.inference_mode()
    def _windows(self, xy: np.ndarray, mask: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The network's output in each window [len(starts), T, 2]; zeros where it sees nothing."""
        index = starts[:, None] + np.arange(self._T)
        known = index < len(xy)  # a trajectory shorter than a window is continued by absent frames
        index = np.minimum(index, len(xy) - 1)
        seen = np.where(known[..., None], xy[index], 0)
        fill = mask[index] & known
        guess = np.concatenate([
            self._network(torch.from_numpy(s), torch.from_numpy(f.astype(np.float32))).numpy()
            for s, f in zip(_blocks(seen), _blocks(fill), strict=True)
        ])  # fmt: skip
        guess = np.where(fill[..., None], guess[: len(starts)], seen)
        return _without_origin(guess)


def _blocks(windows: np.ndarray, size: int = 16) -> list[np.ndarray]:
    """``windows`` in equal blocks, the last one filled up with zeros: equal shapes give equal sums on every machine."""
    missing = -len(windows) % size
    padded = np.concatenate([windows, np.zeros((missing, *windows.shape[1:]), windows.dtype)])
    return list(padded.reshape(-1, size, *windows.shape[1:]))


def _without_origin(xy: np.ndarray) -> np.ndarray:
    """``xy`` [..., 2], shares of the picture, with positions near the top left corner as zeros."""
    return np.where((np.abs(xy) < ORIGIN_SHARE).all(axis=-1, keepdims=True), 0, xy)


def hidden_gaps(rows: Trajectory, *, margin_px: float) -> list[Gap]:
    """TrackNetV3's rule for gaps to repair: the object is lower than ``margin_px`` on both sides of the gap.

    An object that leaves or enters through the top edge was out of the picture, not hidden. (Equation 2 of the paper
    has the opposite sign; the official code and the text agree with this.) As in that code, a gap at the first frame of
    a video is judged by its end alone, one at the second frame or at the last is not repaired.
    """
    y = rows.xy_px[:, 1]
    wanted = []
    for gap in gaps(rows.present):
        begins = int(rows.frame[gap.start])
        if gap.stop == len(rows) or not y[gap.stop] > margin_px:
            continue
        if begins == 0 or (gap.start > 0 and begins > 1 and y[gap.start - 1] > margin_px):
            wanted.append(gap)
    return wanted


def ensemble(windows: Callable[[np.ndarray], np.ndarray], mask: np.ndarray, T: int) -> np.ndarray:
    """TrackNetV3's temporal ensemble: positions [N, 2] where ``mask`` [N], zeros elsewhere and if there is nothing.

    ``windows(starts)`` gives positions [len(starts), T, 2]. A frame that T windows see gets their triangular mean (a
    window's middle counts most), one near an end the plain mean of those that there are.
    """
    last = max(0, len(mask) - T)
    seeing = {n: np.arange(max(0, n - T + 1), min(n, last) + 1) for n in np.flatnonzero(mask).tolist()}
    starts = np.unique(np.concatenate(list(seeing.values())))
    says = dict(zip(starts.tolist(), windows(starts), strict=True))
    triangle = np.minimum(np.arange(T) + 1, T - np.arange(T))
    result = np.zeros((len(mask), 2), np.float32)
    for n, of in seeing.items():
        weight = triangle[n - of] if len(of) == T else np.ones(len(of))
        said = np.stack([says[int(start)][n - start] for start in of])
        result[n] = (weight[:, None] * said).sum(axis=0) / weight.sum()
    return _without_origin(result)


def with_filled(rows: Trajectory, xy_px: np.ndarray, filled: list[Gap], provenance: Provenance) -> Trajectory:
    """``rows`` with the positions of ``xy_px`` [N, 2] in the gaps ``filled``, where it has any."""
    position, visibility = rows.xy_px.copy(), rows.visibility.copy()
    origin, gap_frames = rows.provenance.copy(), rows.gap.copy()
    for gap in filled:
        known = np.arange(gap.start, gap.stop)
        known = known[~np.isnan(xy_px[known]).any(axis=1)]
        position[known] = xy_px[known]
        visibility[known], origin[known], gap_frames[known] = Visibility.OCCLUDED.value, provenance.value, len(gap)
    return replace(rows, xy_px=position, visibility=visibility, provenance=origin, gap=gap_frames)


class RepairedConfig(Config):
    """A tracker's settings and those of the repair behind it."""

    tracking: SerializeAsAny[Config]
    repair: SerializeAsAny[Config]


class RepairedTracker(TrackerWrapper):
    """A tracker whose rows pass through a repair."""

    def __init__(self, tracker: "Tracker", repair: Repair) -> None:
        super().__init__(tracker, reach=repair.reach)
        self._repair = repair
        self.config = RepairedConfig(tracking=tracker.config, repair=repair.config)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "RepairedSession":
        """A new session of the tracker, with its rows repaired; ConfigError for several objects."""
        if len(numbers := {each.object for each in prompt} if isinstance(prompt, Sequence) else set()) > 1:
            raise ConfigError("gaps can be filled for only one object", sorted(numbers), remedy="leave out --repair")
        return RepairedSession(self._tracker.open(prompt), self._repair)


class RepairedSession:
    """Live state: rows that wait for what comes after them, and those before that their repair looks at."""

    def __init__(self, session: "Session", repair: Repair) -> None:
        self._session, self._repair = session, repair
        self._reach = sys.maxsize if repair.reach is None else repair.reach
        self._rows, self._given = Trajectory.empty(), 0
        self._wh_px: tuple[int, int] | None = None

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take frames; return rows that no later frame can change."""
        self._wh_px = batch.viewport.source_wh_px
        self._rows = concat([self._rows, self._session.push(batch)])
        return self._take(max(self._given, len(self._rows) - self._reach))

    def finish(self) -> Trajectory:
        """Return the remaining rows."""
        self._rows = concat([self._rows, self._session.finish()])
        return self._take(len(self._rows))

    def provisional(self) -> Trajectory:
        """The rows that wait and those of the session that do; gaps are filled where both their ends are seen."""
        rows = concat([self._rows, self._session.provisional()])
        if self._wh_px is None or not len(rows):
            return Trajectory.empty()
        return self._repair.fill(rows, self._wh_px)[self._given :]

    def _take(self, stop: int) -> Trajectory:
        if self._wh_px is None or stop == self._given:
            return Trajectory.empty()
        result = self._repair.fill(self._rows, self._wh_px)[self._given : stop]
        drop = max(0, stop - self._reach)
        self._rows, self._given = self._rows[drop:], stop - drop
        return result

"""Following what prompts show: every source proposes places, and the best path from each prompt says which it is.

    pictures -> camera's shift -> what each source proposes -> paths (``tracking.paths``) -> rows

A template's head looks where the flight leads, wider the less is known; a heatmap network sees every frame whole, as
its windows do; a search network is asked while the object is lost. Objects of one session share the pictures, the
windows and the camera, and a place belongs to the one whose flight leads to it. Rows depend on all frames since the
prompt, and not on how frames came in batches.
"""

# K places, S sources

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field, SerializeAsAny

from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.schema import Prompt, Provenance, Visibility
from specktrack.tracking.camera import Camera
from specktrack.tracking.candidates import Candidates, Expected, Picture, Places, pooled
from specktrack.tracking.flight import Flight, first_speed
from specktrack.tracking.paths import Paths, Weighing
from specktrack.tracking.prompts import check_box, prompts_by_object
from specktrack.tracking.rivals import Rivals
from specktrack.tracking.windowed.candidates import HeatmapCandidates, HeatmapFeed
from specktrack.tracking.windowed.session import WindowedTracker


class Choosing(Config):
    """How one of the places becomes a row."""

    weighing: Weighing = Weighing()
    """Costs of a path."""
    wait: int = Field(default=0, ge=0)
    """Frames that a row waits for, in which the path to it may still change."""
    claimed: float = Field(default=3.0, ge=0)
    """Evidence that a place loses for all objects but the one whose flight leads to it best."""
    same_sizes: float = Field(default=0.5, gt=0)
    """Places of two sources are one if they are so near, in sizes of the object, ..."""
    same_px: float = Field(default=3.0, gt=0)
    """... or in px."""
    trust_rate: float = Field(default=0.05, gt=0, lt=1)
    """How fast a source gains or loses trust by seeing the object where it is found, or not, per frame."""


class FollowerConfig(Config):
    """Settings that decide rows, besides the networks."""

    choosing: Choosing
    sources: tuple[SerializeAsAny[Config], ...]
    """Of each network."""


class FollowerTracker:
    """Sources made ready; its sessions need a prompt, or several."""

    stride = 1
    lead = None
    """Rows depend on all frames since the prompt."""
    step_s = None
    """A heatmap network's frames are put as far apart as it wants where its windows are laid."""

    def __init__(
        self,
        choosing: Choosing,
        *,
        heatmap: WindowedTracker | None = None,
        looking: Callable[[], Sequence[Candidates]] = tuple,
        settings: Sequence[Config] = (),
        best_point: bool = False,
    ) -> None:
        self._choosing, self._heatmap, self._looking, self._best_point = choosing, heatmap, looking, best_point
        self.config = FollowerConfig(choosing=choosing, sources=tuple(settings))
        self._at_source = bool(looking())

    @property
    def wants_background(self) -> bool:
        """Whether the heatmap network does."""
        return self._heatmap is not None and self._heatmap.wants_background

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """Source size where a head or a search cuts from the frames; else as the heatmap network wants them."""
        if self._heatmap is None or self._at_source:
            return Viewport(source_wh_px, source_wh_px)
        return self._heatmap.viewport(source_wh_px)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "FollowerSession":
        """A new session; ConfigError without a prompt."""
        feed = None if self._heatmap is None else HeatmapFeed(self._heatmap)
        prompts = prompts_by_object(prompt, "what follows a box")

        def sources() -> list[Candidates]:
            own: list[Candidates] = [] if feed is None else [HeatmapCandidates(feed)]
            return [*own, *self._looking()]

        targets = [_Target(number, told, sources, self._choosing) for number, told in prompts.items()]
        return FollowerSession(targets, feed, self._choosing, best_point=self._best_point)


class FollowerSession:
    """Live state: pictures that wait for windows, the camera, and each object's sources and paths."""

    def __init__(
        self, targets: Sequence["_Target"], feed: HeatmapFeed | None, choosing: Choosing, *, best_point: bool
    ) -> None:
        self._targets, self._feed, self._choosing, self._best_point = targets, feed, choosing, best_point
        self._pictures: deque[Picture] = deque()
        self._camera = Camera()
        self._waiting: deque[tuple[int, float]] = deque()  # frames and times of rows that may still change
        self._next: int | None = None
        self._viewport: Viewport | None = None

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take the next frames; return rows that no later frame can change. ConfigError for an impossible prompt."""
        if not len(batch):
            return Trajectory.empty()
        self._check(batch)
        if self._feed is not None:
            self._feed.push(batch)
        self._pictures.extend(Picture.each(batch))
        return self._follow(last=False)

    def finish(self) -> Trajectory:
        """The remaining rows; ConfigError if a prompt's frame never came."""
        if self._next is None:
            return Trajectory.empty()
        if self._feed is not None:
            self._feed.finish()
        rows = self._follow(last=True)
        if late := [frame for target in self._targets for frame in target.prompted if frame >= self._next]:
            raise ConfigError(
                "the video ends before the prompt's frame", late[0], f"{self._next} frames",
                "give a frame inside the video",
            )  # fmt: skip
        return rows

    def provisional(self) -> Trajectory:
        """None: which path is the best is settled when rows are final."""
        return Trajectory.empty()

    def _check(self, batch: FrameBatch) -> None:
        if self._next is None:
            self._viewport, self._next = batch.viewport, int(batch.frame[0])
            for target in self._targets:
                target.check(self._next, batch.viewport.source_wh_px)
        if batch.frame[0] != self._next:
            raise ValueError(f"frames must follow one another: expected frame {self._next}, got {batch.frame[0]}")
        if batch.viewport != self._viewport:
            raise ValueError(f"a session keeps its viewport: expected {self._viewport}, got {batch.viewport}")
        self._next = int(batch.frame[-1]) + 1

    def _follow(self, *, last: bool) -> Trajectory:
        rows = []
        while self._pictures and (self._feed is None or self._feed.has(self._pictures[0].frame)):
            self._see(self._pictures.popleft())
            if len(self._waiting) > self._choosing.wait:
                rows.append(self._rows([self._waiting.popleft()]))
        if last:
            rows.append(self._rows(list(self._waiting)))
        return concat(rows)

    def _see(self, picture: Picture) -> None:
        shift_px = self._camera.shift_px(picture)
        expected = [target.expected(picture, shift_px) for target in self._targets]
        for target, own in zip(self._targets, expected, strict=True):
            others = [other for other in expected if other is not own and other is not None]
            target.see(picture, own, others)
        self._waiting.append((picture.frame, picture.pts_s))
        if self._feed is not None:
            self._feed.forget(picture.frame + 1)

    def _rows(self, frames: list[tuple[int, float]]) -> Trajectory:
        if not frames:
            return Trajectory.empty()
        parts = [target.rows(frames, best_point=self._best_point) for target in self._targets]
        return concat(_marked_where_they_meet(parts))


class _Target:
    """One object: its prompts, what its sources know of it, and its paths."""

    def __init__(
        self, number: int, prompts: Sequence[Prompt], sources: Callable[[], Sequence[Candidates]], choosing: Choosing
    ) -> None:
        self.number, self._choosing, self._new_sources = number, choosing, sources
        self.prompted = {prompt.frame: prompt.box for prompt in prompts}
        self._sources: Sequence[Candidates] = ()
        self._trust = np.zeros(0)
        self._paths: Paths | None = None
        self._wh_px = (0.0, 0.0)
        self._rivals = Rivals(0.0)
        self._seen: dict[int, tuple[Places, tuple[float, float]]] = {}  # by frame, as long as rows wait
        self._since = -1

    def check(self, first: int, wh_px: tuple[int, int]) -> None:
        """ConfigError for a prompt before the first frame, or whose box is not in the picture."""
        for frame, box in self.prompted.items():
            if frame < first:
                raise ConfigError("the frames begin after the prompt's frame", frame, f"first frame {first}")
            check_box(box, wh_px, frame)

    def expected(self, picture: Picture, shift_px: np.ndarray) -> Expected | None:
        """Where the object should be in the next picture; None before its first prompt, and at one."""
        if self._paths is None:
            return None
        self._paths.moved(shift_px)
        size_px = self._size_px
        xy_px, sigma_px = self._paths.expected(picture.pts_s, size_px=size_px)
        return Expected(xy_px, sigma_px, size_px, self._paths.unseen)

    def see(self, picture: Picture, expected: Expected | None, others: Sequence[Expected]) -> None:
        """Look at the next picture; what the flights of ``others`` lead to is theirs."""
        if picture.frame in self.prompted:
            self._begin(picture)
        elif self._paths is not None and expected is not None:
            self._go_on(picture, expected, others)

    def rows(self, frames: Sequence[tuple[int, float]], *, best_point: bool) -> Trajectory:
        """Rows of frames and times, by the best path as it is now; what led to it is forgotten."""
        course = {} if self._paths is None else self._paths.course(frames[0][0])
        boxes, scores = np.full((len(frames), 4), np.nan, np.float32), np.zeros(len(frames), np.float32)
        for n, (frame, _) in enumerate(frames):
            places, wh_px = self._seen.pop(frame, (Places.none(), (0.0, 0.0)))
            step = course.get(frame)
            if len(places.score):
                k = int(places.evidence.argmax()) if step is None else step.place
                scores[n] = places.score[k]
                if step is not None or best_point:
                    boxes[n] = *places.xy_px[k], *wh_px
        if self._paths is not None:
            self._paths.settle(frames[-1][0])
        return Trajectory(
            frame=np.array([frame for frame, _ in frames]),
            pts_s=np.array([pts_s for _, pts_s in frames]),
            xy_px=boxes[:, :2],
            score=scores,
            provenance=np.full(len(frames), Provenance.TRACKED.value, object),
            wh_px=boxes[:, 2:],
            object=np.full(len(frames), self.number, np.int32),
        )

    @property
    def _size_px(self) -> float:
        return float(np.sqrt(self._wh_px[0] * self._wh_px[1]))

    def _begin(self, picture: Picture) -> None:
        box, motion = self.prompted[picture.frame], self._choosing.weighing.motion
        xy_px, self._wh_px = np.array([box.cx_px, box.cy_px]), (box.w_px, box.h_px)
        self._sources = self._new_sources()
        self._trust = np.array([source.begin(picture, box) for source in self._sources])
        speed = first_speed(motion, size_px=self._size_px, wh_px=picture.viewport.source_wh_px)
        flight = Flight.begin(picture.pts_s, xy_px, size_px=self._size_px, speed_px_s=speed)
        self._paths = Paths(self._choosing.weighing, picture.frame, flight)
        self._rivals = Rivals(max(self._choosing.same_px, self._size_px / 2))
        self._seen[picture.frame] = Places(xy_px[None], np.ones(1), np.ones(1)), self._wh_px

    def _go_on(self, picture: Picture, expected: Expected, others: Sequence[Expected]) -> None:
        assert self._paths is not None
        proposed: list[Places] = []
        for source in self._sources:
            hints_px = np.concatenate([places.xy_px for places in proposed]) if proposed else np.zeros((0, 2))
            proposed.append(source.propose(picture, expected, hints_px))
        within_px = max(self._choosing.same_px, self._choosing.same_sizes * expected.size_px)
        pool = pooled(proposed, self._trust, within_px=within_px)
        fair = self._less_claimed(pool.places, expected, others)
        places = self._rivals.less(fair)
        self._paths.extend(picture.frame, picture.pts_s, places.xy_px, places.evidence, size_px=expected.size_px)
        if (step := self._paths.now) is not None:
            off = pool.belief[:, step.place] - self._trust
            self._trust += self._choosing.trust_rate * np.nan_to_num(off)
            found = [source.confirm(picture, step.xy_px) for source in self._sources]
            self._wh_px = next((wh_px for wh_px in found if wh_px is not None), self._wh_px)
        self._rivals.see(fair, None if step is None else step.place)
        self._seen[picture.frame] = places, self._wh_px

    def _less_claimed(self, places: Places, expected: Expected, others: Sequence[Expected]) -> Places:
        """The places, less likely where another object's flight leads to them better than this one's."""
        if not others or not len(places.xy_px):
            return places
        own, *theirs = (_surprise(places.xy_px, each) for each in (expected, *others))
        claimed = own > np.min(theirs, axis=0)
        return Places(places.xy_px, places.evidence - self._choosing.claimed * claimed, places.score)


def _surprise(xy_px: np.ndarray, expected: Expected) -> np.ndarray:
    """How unlikely places [K, 2] are by a flight, [K]."""
    variance = expected.sigma_px**2 + (0.25 * expected.size_px) ** 2
    return np.asarray(np.square(xy_px - expected.xy_px).sum(axis=1) / (2 * variance) + np.log(variance))


def _marked_where_they_meet(parts: list[Trajectory]) -> list[Trajectory]:
    """Rows of objects that cover one another are ``occluded``: which of them is which is not seen there."""
    for i, one in enumerate(parts):
        for other in parts[i + 1 :]:
            with np.errstate(invalid="ignore"):
                distance = np.linalg.norm(one.xy_px - other.xy_px, axis=1)
                meet = distance < np.sqrt((one.wh_px * other.wh_px).prod(axis=1)) ** 0.5 / 2
            for each in (one, other):
                each.visibility[meet] = Visibility.OCCLUDED.value
    return parts

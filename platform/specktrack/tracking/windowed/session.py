"""Following by a windowed network: overlapping windows -> candidates per frame -> choice -> rows.

Windows start at multiples of the stride, counted from frame 0 of the video, not from the first frame pushed. Every row
depends on frames at most ``reach`` away. So rows are the same however the video is cut into clips and batches.
"""

# T frames in window, K candidates

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Calibration, Model
from specktrack.models.heatmap.detector import Detector, Engines, MirroredDetector
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.schema import Prompt
from specktrack.tracking.following import Reading
from specktrack.tracking.motion import Choice, choose
from specktrack.tracking.windowed.background import RunningMedian
from specktrack.tracking.windowed.ensemble import Found, joined
from specktrack.tracking.windowed.gated import Gate, choose_gated

ANY_REGION = 1 / 3
"""Score of a region of one pixel at one half, s / (1 + s): WASB takes any region above its threshold."""


SHORT_CHOICE = 2
"""Frames on either side that a choice of low delay looks at."""
_FIRST = {"input_wh", "overlap", "ensemble", "decoding"}
"""Settings that every output's ``run.json`` holds."""


class Windowing(Reading):
    """How windows are laid and how one candidate per frame is chosen."""

    candidates: int = Field(default=4, ge=1)
    """Peaks per heatmap that the choice may take from."""
    choice: Choice | Gate = Field(default=Choice(), discriminator="kind")
    """How one of a frame's candidates is taken: ``flight`` weighs both neighbourhoods, ``gated`` is WASB's tracker."""

    @classmethod
    def of(cls, reading: Reading) -> Self:
        """With the choice that belongs to the decoding: a paper's takes each frame alone, WASB's has its gate."""
        settings = {name: getattr(reading, name) for name in Reading.model_fields}
        usual = SHORT_CHOICE if reading.delay == "low" else Choice().frames
        choice: Choice | Gate = Choice(frames=usual if reading.decoding == "peaks" else 0)
        if reading.decoding == "components":
            choice = Gate(threshold=ANY_REGION)
        if reading.threshold is not None:
            choice = choice.model_copy(update={"threshold": reading.threshold})
        return cls(**settings, choice=choice)

    @model_serializer(mode="wrap")
    def _as_outputs_are_known(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Later settings only where they are used, so that what older versions wrote is still resumed.

        What the time step decides is known by the tracker's ``step_s``, as it may be the model's own.
        """
        unused = {
            name
            for name in Reading.model_fields.keys() - _FIRST
            if getattr(self, name) == Reading.model_fields[name].default
        }
        return {name: value for name, value in fields(self).items() if name not in unused | {"time_step"}}

    def outputs_of(self, network: WindowedConfig) -> int:
        """Heatmaps of each window that count: its last ones."""
        return network.frames_out if self.delay == "full" else 1

    def stride_of(self, network: WindowedConfig) -> int:
        """Frames from one window to the next."""
        return max(1, network.frames_in // self.overlap) if self.outputs_of(network) == network.frames_in else 1


def reach(network: WindowedConfig, config: Windowing) -> int:
    """Frames on either side that a row depends on, rounded up to a multiple of the stride."""
    stride = config.stride_of(network)
    frames = network.frames_in - stride + max(config.choice.behind, config.choice.ahead)
    return -(-frames // stride) * stride


Watch = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""Takes frames [N], their candidates [N, K, 2] in source px (NaN if there are fewer) and scores [N, K]."""


class WindowedTracker:
    """A windowed network made ready on a device; its sessions follow without a prompt."""

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device,
        config: Windowing | None = None,
        through: Callable[[Detector], Detector] | None = None,
        engines: Engines | None = None,
    ) -> None:
        assert isinstance(model.network, HeatmapNetwork)
        self.model, self.config = model, config or Windowing()
        self._network = model.network.config
        detector = Detector(
            model.network,
            device=device,
            candidates=self.config.candidates,
            decoding=self.config.decoding,
            engines=engines,
        )
        self._detector = through(detector) if through else detector
        if self.config.flip:
            self._detector = MirroredDetector(self._detector)

    @property
    def stride(self) -> int:
        """Clips start and stop at multiples of it, so that windows fall alike in cut and uncut video."""
        return self.config.stride_of(self._network)

    @property
    def lead(self) -> int:
        """Frames before and after a clip that its rows depend on."""
        return reach(self._network, self.config)

    @property
    def step_s(self) -> float | None:
        """Seconds between frames as the network was taught, or as the configuration says."""
        step_s = self.model.card.step_s if self.config.time_step is None else self.config.time_step
        return step_s or None

    @property
    def wants_background(self) -> bool:
        """Whether its network does."""
        return self._network.wants_background

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """The viewport in which this tracker sees a video of ``source_wh_px``."""
        return Viewport.fit(source_wh_px, self.config.input_wh or self._network.input_wh)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "WindowedSession":
        """A new session; the first frames pushed say what their viewport is. ConfigError if there is a prompt."""
        if prompt:
            what, remedy = "this tracker was made for following without a prompt", "make it with prompted=True"
            raise ConfigError(what, self.model.card.name, remedy=remedy)
        return WindowedSession(self._detector, self.config, self.model.card.calibration)

    def watched(self, watch: "Watch") -> "WindowedSession":
        """A session whose candidates are told before the choice: for those who choose by more than a heatmap."""
        return WindowedSession(self._detector, self.config, self.model.card.calibration, watch)


class WindowedSession:
    """Live state: frames that wait for their windows, heatmap sums that wait for theirs, candidates for the choice."""

    def __init__(
        self,
        detector: Detector,
        config: Windowing,
        calibration: Calibration | None = None,
        watch: "Watch | None" = None,
    ) -> None:
        self._watch = watch
        self._detector, self._config, self._calibration = detector, config, calibration or Calibration()
        self._network = detector.config
        self._stride, self._outputs = config.stride_of(detector.config), config.outputs_of(detector.config)
        self._viewport: Viewport | None = None  # of all frames pushed
        self._begin: int | None = None  # the first frame pushed
        self._end = 0  # one past the last frame pushed
        self._frames: list[np.ndarray] = []  # pixels from frame self._first on
        self._first = 0
        self._next_window = 0  # first frame of the next window
        self._covered = 0  # one past the last frame that a window has seen
        self._windows = joined(config.ensemble, detector.decode, outputs=self._outputs, stride=self._stride)
        self._background: np.ndarray | None = None  # of the whole video, if somebody knows it
        self._running = RunningMedian()
        self._pts_s: dict[int, float] = {}
        self._decoded = _Candidates(self._windows.decoded * config.candidates)

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take frames; return rows that no later frame can change."""
        if not len(batch):
            return Trajectory.empty()
        if self._begin is None:
            self._start(batch)
        elif batch.frame[0] != self._end:
            raise ValueError(f"frames must follow one another: expected frame {self._end}, got {batch.frame[0]}")
        elif batch.viewport != self._viewport:
            raise ValueError(f"a session keeps its viewport: expected {self._viewport}, got {batch.viewport}")
        self._end = int(batch.frame[-1]) + 1
        self._frames.extend(batch.pixels)
        self._pts_s.update(zip(batch.frame.tolist(), batch.pts_s.tolist(), strict=True))
        self._run_windows(self._end)
        return self._final_rows(last=False)

    def finish(self) -> Trajectory:
        """Run the last windows, filled up with copies of the last frame, and return the remaining rows."""
        if self._begin is None:
            return Trajectory.empty()
        if self._covered < self._end:
            self._frames.extend([self._frames[-1]] * self._network.frames_in)
            while self._covered < self._end:
                self._run_windows(self._next_window + self._network.frames_in)
        return self._final_rows(last=True)

    def provisional(self) -> Trajectory:
        """Rows of frames that a window has seen and that are not final, as they would be if no frame came any more."""
        if self._begin is None:
            return Trajectory.empty()
        waiting = copy(self._decoded)
        self._decode(waiting, self._windows.seen(self._begin, self._end))
        frame, xy_px, score = self._chosen_of(waiting, last=True)
        return Trajectory(frame, np.array([self._pts_s[int(f)] for f in frame]), xy_px, score)

    def _start(self, batch: FrameBatch) -> None:
        """Lay the first window; where it begins before the first frame, copies of that frame stand in."""
        self._viewport, self._background = batch.viewport, batch.background
        self._begin = self._end = self._covered = int(batch.frame[0])
        unseen = self._network.frames_in - self._outputs  # a MISO network draws the last frame only
        self._first = self._next_window = (self._begin - unseen) // self._stride * self._stride
        self._frames = [batch.pixels[0]] * (self._begin - self._first)

    def _run_windows(self, available: int) -> None:
        """Run every window whose frames are all below ``available``."""
        starts = []
        while self._next_window + self._network.frames_in <= available:
            starts.append(self._next_window)
            self._next_window += self._stride
        at_once = self._detector.windows_at_once
        for i in range(0, len(starts), at_once):
            self._forward(starts[i : i + at_once])
        del self._frames[: self._next_window - self._first]
        self._first = self._next_window

    def _forward(self, starts: list[int]) -> None:
        frames_in = self._network.frames_in
        windows = np.stack([self._window(start) for start in starts])
        heatmaps = self._detector.heatmaps(torch.from_numpy(windows))
        self._covered = starts[-1] + frames_in
        for start, window in zip(starts, heatmaps, strict=True):
            self._windows.add(start + frames_in - self._outputs, window[-self._outputs :])

    def _window(self, start: int) -> np.ndarray:
        """Pictures uint8 [pictures_in, H, W, 3] of the window that begins at ``start``."""
        frames = self._frames[start - self._first :][: self._network.frames_in]
        if not self._network.wants_background:
            return np.stack(frames)
        background = self._background
        if background is None:  # of what the window has seen, however many frames were pushed together
            for number, pixels in enumerate(frames, start):
                background = self._running.after(pixels, number)
        assert background is not None
        return np.stack([background, *frames])

    def _final_rows(self, *, last: bool) -> Trajectory:
        """Take the frames whose windows have all run and choose among candidates whose neighbourhood is complete."""
        drawn_next = self._next_window + self._network.frames_in - self._outputs
        limit = self._end if last else min(self._end, drawn_next)
        self._decode(self._decoded, self._windows.take(self._begin or 0, limit), self._watch)
        frame, xy_px, score = self._chosen_of(self._decoded, last=last)
        pts_s = np.array([self._pts_s.pop(int(f)) for f in frame])
        return Trajectory(frame, pts_s, xy_px, score)

    def _decode(self, into: "_Candidates", found: Found, watch: "Watch | None" = None) -> None:
        frames, xy, heat = found
        if frames:
            number, xy_net, score = np.array(frames), xy.numpy(), self._calibration.of(heat.numpy())
            into.append(number, xy_net, score)
            if watch is not None:
                assert self._viewport is not None
                watch(number, self._viewport.to_source(xy_net), score)

    def _chosen_of(self, candidates: "_Candidates", *, last: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert self._viewport is not None
        return candidates.take(self._config.choice, self._viewport, last=last)


class _Candidates:
    """Candidates of consecutive frames, kept as long as the choice for a later frame looks back at them."""

    def __init__(self, candidates: int) -> None:
        self._frame = np.zeros(0, np.int64)
        self._xy = np.zeros((0, candidates, 2), np.float32)
        self._score = np.zeros((0, candidates), np.float32)
        self._chosen = 0  # rows already handed out, counted from the front of the arrays

    def __len__(self) -> int:
        return len(self._frame)

    def append(self, frame: np.ndarray, xy_net: np.ndarray, score: np.ndarray) -> None:
        self._frame = np.concatenate([self._frame, frame])
        self._xy = np.concatenate([self._xy, xy_net])
        self._score = np.concatenate([self._score, score])

    def take(
        self, choice: Choice | Gate, viewport: Viewport, *, last: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames [N], chosen positions [N, 2] (source px, NaN if absent) and scores [N] that are final now."""
        stop = len(self) if last else max(self._chosen, len(self) - choice.ahead)
        xy_px, score = _choose(self._xy, self._score, choice, viewport)
        rows = slice(self._chosen, stop)
        result = self._frame[rows], xy_px[rows], score[rows]
        drop = max(0, stop - choice.behind)
        self._frame, self._xy, self._score = self._frame[drop:], self._xy[drop:], self._score[drop:]
        self._chosen = stop - drop
        return result


def _choose(
    xy_net: np.ndarray, score: np.ndarray, choice: Choice | Gate, viewport: Viewport
) -> tuple[np.ndarray, np.ndarray]:
    """Positions [N, 2] (source px) and scores [N]; a gate is measured in source px."""
    if isinstance(choice, Gate):
        return choose_gated(viewport.to_source(xy_net), score, choice)
    xy, score = choose(xy_net, score, choice, wh_px=viewport.network_wh_px)
    return viewport.to_source(xy).astype(np.float32), score

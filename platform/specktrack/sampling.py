"""Which window of which video, and which part of its picture, makes sample number i of a training run.

The order is a pure function of (seed, sample number): epochs are permutations of all windows, every draw has a named
generator. So ranks take slices of one global list, and resuming is an offset into it, whatever the number of workers.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Protocol, Self

import numpy as np
from pydantic import Field, model_validator

from specktrack.config import Config
from specktrack.errors import ConfigError

MOTION_CELL_PX = 16
"""Side of the cells, in network px, in which motion is summed up for hard negatives."""


class Motion(Protocol):
    """How much moves: ``motion_cells`` of a video, or what reads a frame's part of them when it is asked for."""

    def __getitem__(self, frame: int, /) -> np.ndarray:
        """float32 [rows, columns]."""


@dataclass(frozen=True)
class LabelledVideo:
    """The part of a labelled video that sampling needs; positions in network px."""

    xy_net: np.ndarray
    """float32 [N, 2], NaN where absent."""
    labelled: np.ndarray
    """bool [N]: the frame has a label; windows over other frames are not drawn."""
    motion: Motion
    """Of each frame, mean absolute difference to the frame before, per cell of MOTION_CELL_PX."""
    wh_net: tuple[int, int]
    size_net: np.ndarray | None = None
    """float32 [N], side of the object (square root of its area), NaN where the labels do not say."""
    decoy_net: np.ndarray | None = None
    """float32 [N, 2], what an earlier model took for the object, NaN where nothing; see ``SamplingConfig.on_decoy``."""
    dataset: int = 0
    """Which of the run's datasets it belongs to; see ``SamplingConfig.shares``."""


@dataclass(frozen=True)
class Sample:
    """One training sample: frames ``step`` apart from ``start`` on, cropped, resized, maybe mirrored."""

    video: int
    start: int
    step: int
    crop: tuple[int, int, int, int]
    """x0, y0, width, height in network px of the video."""
    mirrored: bool
    reversed_time: bool
    number: int
    """Position in the run's list: the key of all further draws."""

    def frames(self, count: int) -> np.ndarray:
        """int64 [count]: the video's frames in the order in which the window shows them."""
        frames = self.start + self.step * np.arange(count)
        return frames[::-1] if self.reversed_time else frames


class SamplingConfig(Config):
    """Where crops are taken and how they vary."""

    crop_wh: tuple[int, int] = (256, 160)
    """Size of a training picture, network px; the whole frame if at least as large."""
    zoom: tuple[float, float] = (0.75, 1.6)
    """Range of magnifications, log-uniform."""
    target_px: tuple[float, float] | None = None
    """Range of the object's size in the training picture: magnifications within ``zoom`` are drawn such that all sizes
    in the range have equal weight on a logarithmic scale, whatever the size in the video."""
    nominal_px: float = Field(default=5.0, gt=0)
    """Assumed object size, network px, for ``target_px`` if the labels have no size."""
    on_object: float = 0.7
    """Share of crops placed around the object, if there is one."""
    on_motion: float = 0.2
    """Share of crops placed on motion away from the object: players, rackets, shadows (hard negatives)."""
    on_decoy: float = Field(default=0.0, ge=0, lt=1)
    """Share of windows that show a false positive of an earlier model (mined hard negatives), in datasets that have
    some."""
    skip_frames: float = 0.15
    """Share of windows that take every second frame: faster motion, lower frame rates."""
    still: float = Field(default=0.0, ge=0, le=1)
    """Share of windows that repeat one frame throughout: an object at rest, which videos cut to rallies rarely
    contain."""
    paste: float = Field(default=0.0, ge=0, le=1)
    """Share of windows without an object that get one pasted in, cut from another window of the same dataset, so it
    appears on backgrounds where it was never filmed."""
    mirror: float = 0.5
    """Share of windows that are mirrored."""
    reverse: float = 0.5
    """Share of windows played backwards."""
    shares: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Relative frequency of each dataset, one number for each in ``data``, to balance datasets whatever their number of
    windows. By default, all windows are equally likely."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.target_px is not None:
            low, high = (size / self.nominal_px for size in self.target_px)
            if low < self.zoom[0] or high > self.zoom[1]:
                raise ValueError(
                    f"target_px {self.target_px} for an object of nominal_px {self.nominal_px:g} takes magnifications"
                    f" from {low:.3g} to {high:.3g}, beyond zoom {self.zoom}"
                )
        return self


class WindowSampler:
    """The global list of samples of a run."""

    def __init__(self, videos: list[LabelledVideo], *, frames_in: int, seed: int, config: SamplingConfig) -> None:
        self.videos, self.frames_in, self.seed, self.config = videos, frames_in, seed, config
        starts = [
            np.stack([np.full(len(good), index), good], axis=1)
            for index, video in enumerate(videos)
            if len(good := window_starts(video.labelled, frames_in))
        ]
        if not starts:
            raise ConfigError("no video has enough consecutive labelled frames", frames_in, remedy="use other data")
        self.windows = np.concatenate(starts)
        """int64 [windows, 2]: video and first frame."""
        self._decks = _Decks(self._datasets(), seed=seed, shares=config.shares)
        self._with_decoy = self._decoy_windows() if config.on_decoy else {}

    def __len__(self) -> int:
        """Windows in the data: samples per epoch."""
        return len(self.windows)

    def _datasets(self) -> list[np.ndarray]:
        """Windows (indices into ``windows``) of each dataset; one list of all where they are drawn alike."""
        if not self.config.shares:
            return [np.arange(len(self.windows))]
        dataset = np.array([video.dataset for video in self.videos])[self.windows[:, 0]]
        windows = [np.flatnonzero(dataset == index) for index in range(len(self.config.shares))]
        if empty := [index for index, of in enumerate(windows) if not len(of)]:
            raise ConfigError(
                "no video of a dataset has enough labelled frames in a row", f"dataset {empty[0]} of data",
                "sampling.shares", "use other data, or remove the dataset and its share",
            )  # fmt: skip
        return windows

    def _decoy_windows(self) -> dict[int, np.ndarray]:
        """Windows (indices into ``windows``) with a decoy in their middle, of each dataset that has some."""
        found: dict[int, list[int]] = {}
        for index, (video, start) in enumerate(self.windows.tolist()):
            decoys = self.videos[video].decoy_net
            if decoys is not None and np.isfinite(decoys[start + self.frames_in // 2]).all():
                found.setdefault(self.videos[video].dataset, []).append(index)
        return {dataset: np.array(indices) for dataset, indices in found.items()}

    def sample(self, number: int) -> Sample:
        """Sample ``number`` of the run (0, 1, 2, ... over all epochs)."""
        window = self._decks.window(number)
        draw = np.random.default_rng([self.seed, 1, number])
        on_decoy = bool(self._with_decoy) and draw.random() < self.config.on_decoy
        if on_decoy:
            dataset = self.videos[self.windows[window, 0]].dataset
            window = int(draw.choice(self._with_decoy.get(dataset, [window])))
        video_index, start = (int(v) for v in self.windows[window])
        video = self.videos[video_index]
        step = 2 if draw.random() < self.config.skip_frames else 1
        if self.config.still and draw.random() < self.config.still:
            step = 0
        span = (self.frames_in - 1) * step + 1
        if start + span > len(video.labelled) or not video.labelled[start : start + span].all():
            step, span = 1, self.frames_in
        crop = self._crop(video, start + span // 2, draw, on_decoy=on_decoy)
        mirrored, reversed_time = draw.random(2) < (self.config.mirror, self.config.reverse)
        return Sample(video_index, start, step, crop, bool(mirrored), bool(reversed_time), number)

    def _crop(
        self, video: LabelledVideo, frame: int, draw: np.random.Generator, *, on_decoy: bool
    ) -> tuple[int, int, int, int]:
        """A crop of the drawn magnification around the object, a decoy, motion or anywhere."""
        width, height = video.wh_net
        zoom = self._zoom(video, frame, draw)
        crop_w = min(width, round(self.config.crop_wh[0] / zoom))
        crop_h = min(height, round(self.config.crop_wh[1] / zoom))
        decoy = video.decoy_net[frame] if on_decoy and video.decoy_net is not None else np.full(2, np.nan)
        centre = self._centre(video, frame, draw) if np.isnan(decoy).any() else decoy
        jitter = draw.uniform(-0.4, 0.4, size=2) * (crop_w, crop_h)
        x0, y0 = np.clip(centre + jitter - (crop_w / 2, crop_h / 2), 0, (width - crop_w, height - crop_h))
        return int(x0), int(y0), crop_w, crop_h

    def _zoom(self, video: LabelledVideo, frame: int, draw: np.random.Generator) -> float:
        """A magnification for the object's size at ``frame``."""
        config = self.config
        if config.target_px is None:
            return float(np.exp(draw.uniform(*np.log(config.zoom))))
        size = np.nan if video.size_net is None else float(video.size_net[frame])
        if np.isnan(size):
            size = config.nominal_px
        return float(np.clip(np.exp(draw.uniform(*np.log(config.target_px))) / size, *config.zoom))

    def _centre(self, video: LabelledVideo, frame: int, draw: np.random.Generator) -> np.ndarray:
        kind = draw.random()
        ball = video.xy_net[frame]
        if kind < self.config.on_object and not np.isnan(ball).any():
            return ball
        if kind < self.config.on_object + self.config.on_motion:
            energy = video.motion[frame].astype(float) ** 2
            rows, columns = np.indices(energy.shape)
            centres = (np.stack([columns, rows], axis=-1) + 0.5) * MOTION_CELL_PX
            if not np.isnan(ball).any():
                energy[np.linalg.norm(centres - ball, axis=-1) < 2 * MOTION_CELL_PX] = 0
            if energy.sum() > 0:
                return centres.reshape(-1, 2)[draw.choice(energy.size, p=(energy / energy.sum()).ravel())]
        return draw.uniform((0, 0), video.wh_net)


class _Decks:
    """Which window comes at which number: each dataset has a deck of its own, dealt in turns of ``CARDS``."""

    CARDS = 100
    """Samples in which every dataset comes by its share."""

    def __init__(self, windows: list[np.ndarray], *, seed: int, shares: tuple[float, ...]) -> None:
        self._windows, self._seed = windows, seed
        self._turn = np.repeat(np.arange(len(windows)), _seats(shares, self.CARDS)) if shares else np.zeros(1, int)
        self._seats = np.bincount(self._turn, minlength=len(windows))

    def window(self, number: int) -> int:
        """The window of sample ``number``: that of the dataset whose turn it is, in its own epoch's order."""
        turn, card = divmod(number, len(self._turn))
        order = shuffled((self._seed, 3, turn), len(self._turn))
        dealt = self._turn[order[: card + 1]]
        dataset = int(dealt[-1])
        mine = turn * int(self._seats[dataset]) + int((dealt[:-1] == dataset).sum())
        windows = self._windows[dataset]
        epoch, place = divmod(mine, len(windows))
        key = (self._seed, 0, epoch, dataset) if len(self._windows) > 1 else (self._seed, 0, epoch)
        return int(windows[shuffled(key, len(windows))[place]])


def _seats(shares: tuple[float, ...], cards: int) -> np.ndarray:
    """Cards for each share, ``cards`` in all, at least one each: by largest remainders."""
    exact = np.array(shares) / sum(shares) * cards
    seats = np.maximum(1, np.floor(exact).astype(int))
    for index in np.argsort(seats - exact)[: max(0, cards - int(seats.sum()))]:
        seats[index] += 1
    return seats


@lru_cache(maxsize=64)
def shuffled(key: tuple[int, ...], length: int) -> np.ndarray:
    """The permutation that belongs to a key."""
    return np.random.default_rng(key).permutation(length)


def window_starts(labelled: np.ndarray, frames_in: int) -> np.ndarray:
    """First frames of all windows whose frames are all labelled."""
    if len(labelled) < frames_in:
        return np.zeros(0, np.int64)
    counts = np.convolve(labelled.astype(np.int64), np.ones(frames_in, np.int64), mode="valid")
    return np.flatnonzero(counts == frames_in)


def motion_cells(pixels: np.ndarray) -> np.ndarray:
    """float32 [N, rows, columns]: motion between consecutive frames uint8 [N, H, W, 3], per cell; frame 0 like 1."""
    small = pixels[:, ::4, ::4, 1].astype(np.int16)
    difference = np.abs(np.diff(small, axis=0))
    side = MOTION_CELL_PX // 4
    n, rows, columns = difference.shape[0], difference.shape[1] // side, difference.shape[2] // side
    cells = difference[:, : rows * side, : columns * side].reshape(n, rows, side, columns, side)
    energy = cells.mean(axis=(2, 4)).astype(np.float32)
    return np.concatenate([energy[:1], energy]) if n else np.zeros((len(pixels), rows, columns), np.float32)

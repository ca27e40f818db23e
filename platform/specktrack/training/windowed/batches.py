"""Samples to tensors: windows cut from labelled videos and resized."""

# B batch, T frames in window, C channel, H W network px

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from specktrack.sampling import Sample, WindowSampler
from specktrack.training.course import Tensors
from specktrack.training.frame_cache import CachedVideo
from specktrack.training.windowed.pasting import Pasting


@dataclass(frozen=True)
class Batch:
    """One shard of one step."""

    frames_BTCHW: torch.Tensor
    """float32 in [0, 1]; after a background where the network wants one."""
    xy_net: torch.Tensor
    """float32 [B, T, 2] in px of the crop; NaN where absent or outside it."""
    generator: torch.Generator
    """For what is still drawn at random for this batch; on the CPU."""
    hard: torch.Tensor
    """bool [B, T]: frames that were mined as hard."""


class Batches:
    """Samples of labelled videos as tensors."""

    def __init__(
        self, videos: list[CachedVideo], sampler: WindowSampler, *, batch_size: int, device: torch.device
    ) -> None:
        self._videos, self._sampler, self._device = videos, sampler, device
        self._batch_size = batch_size
        self._pasting = Pasting(videos, sampler) if sampler.config.paste else None

    def read(self, numbers: range) -> Tensors:
        """Of one shard of a step, pictures uint8 [B, pictures, h, w, 3] around the crops, how to zoom them, labels."""
        samples = [self._sampler.sample(number) for number in numbers]
        windows = [self._window(sample) for sample in samples]
        return {
            "pictures": self._stacked([cut for cut, _ in windows]),
            "thetas": torch.from_numpy(self._thetas(samples)),
            "xy_net": torch.from_numpy(np.stack([xy for _, xy in windows])),
            "hard": torch.from_numpy(np.stack([self._hard(sample) for sample in samples])),
        }

    def batch(self, numbers: range, read: Tensors) -> Batch:
        """The shard as a batch on the device."""
        step, shard = divmod(numbers.start, self._batch_size)
        seed = np.random.default_rng([self._sampler.seed, 2, step, shard]).integers(2**62)
        return Batch(
            self._zoomed(read["pictures"].to(self._device, non_blocking=True), read["thetas"].to(self._device)),
            read["xy_net"].to(self._device, non_blocking=True),
            torch.Generator().manual_seed(int(seed)),
            read["hard"].to(self._device, non_blocking=True),
        )

    @property
    def _cut_wh(self) -> tuple[int, int]:
        """Every sample is cut with the margin of the widest zoom: equal sizes make one tensor and one kernel."""
        width, height = (int(np.ceil(side / self._sampler.config.zoom[0])) for side in self._sampler.config.crop_wh)
        return width, height

    def _corner(self, sample: Sample) -> tuple[int, int]:
        """Left and top of what is cut for a sample, px of its video at network size."""
        x0, y0, _, _ = sample.crop
        height, width = self._videos[sample.video].pixels.shape[1:3]
        cut_w, cut_h = self._cut_wh
        return max(0, min(x0, width - cut_w)), max(0, min(y0, height - cut_h))

    def _window(self, sample: Sample) -> tuple[torch.Tensor, np.ndarray]:
        """uint8 [pictures, h, w, 3] around the crop, and positions float32 [T, 2] in px of the training picture."""
        video, frames = self._videos[sample.video], sample.frames(self._sampler.frames_in)
        (left, top), (cut_w, cut_h) = self._corner(sample), self._cut_wh
        around = slice(top, top + cut_h), slice(left, left + cut_w)
        cut = video.pixels[torch.from_numpy(frames.copy()), *around]
        xy_net = self._positions(sample, video.sampling.xy_net[frames])
        if self._pasting is not None and np.isnan(xy_net).all():
            cut, pasted_xy_net = self._pasting.onto(cut, sample, (left, top))
            xy_net = self._positions(sample, pasted_xy_net)
        if video.background is not None:
            cut = torch.cat([video.background[around][None], cut])
        return cut, xy_net

    def _stacked(self, cuts: list[torch.Tensor]) -> torch.Tensor:
        """All of a batch, where a video is smaller than what is cut with a dark rim."""
        cut_w, cut_h = self._cut_wh
        return torch.stack([F.pad(cut, (0, 0, 0, cut_w - cut.shape[2], 0, cut_h - cut.shape[1])) for cut in cuts])

    def _thetas(self, samples: list[Sample]) -> np.ndarray:
        """float32 [B, 2, 3]: from each training picture to what is cut for it, zoomed and maybe mirrored."""
        cut_w, cut_h = self._cut_wh
        thetas = np.zeros((len(samples), 2, 3), np.float32)
        for theta, sample in zip(thetas, samples, strict=True):
            x0, y0, width, height = sample.crop
            left, top = self._corner(sample)
            theta[0] = width / cut_w, 0, (2 * (x0 - left) + width) / cut_w - 1
            theta[1] = 0, height / cut_h, (2 * (y0 - top) + height) / cut_h - 1
            theta[0, 0] *= -1 if sample.mirrored else 1
        return thetas

    def _zoomed(self, stacked: torch.Tensor, thetas: torch.Tensor) -> torch.Tensor:
        """Zoom and mirror in one pass over the whole batch; float32 [B, pictures, 3, h, w]."""
        out_w, out_h = self._sampler.config.crop_wh
        planes = stacked.permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 255
        grid = F.affine_grid(thetas, [len(stacked), 1, out_h, out_w], align_corners=False)
        zoomed = F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return zoomed.unflatten(1, (stacked.shape[1], 3))

    def _positions(self, sample: Sample, xy_net: np.ndarray) -> np.ndarray:
        """Positions [T, 2] of the video, in px of the training picture; NaN where absent or outside."""
        x0, y0, width, height = sample.crop
        out_w, out_h = self._sampler.config.crop_wh
        xy = (xy_net - (x0, y0) + 0.5) * (out_w / width, out_h / height) - 0.5
        with np.errstate(invalid="ignore"):
            outside = ~((xy > -0.5) & (xy < (out_w - 0.5, out_h - 0.5))).all(axis=1)
        xy[outside] = np.nan
        if sample.mirrored:
            xy[:, 0] = out_w - 1 - xy[:, 0]
        return xy.astype(np.float32)

    def _hard(self, sample: Sample) -> np.ndarray:
        """bool [T]: which of the sample's frames were mined."""
        frames = sample.frames(self._sampler.frames_in)
        hard = self._videos[sample.video].hard
        return np.zeros(len(frames), bool) if hard is None else hard[frames]

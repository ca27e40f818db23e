"""Samples to tensors: windows cut from cached videos and resized."""

# B batch, T frames in window, C channel, H W network px

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from specktrack.sampling import Sample, WindowSampler
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
    """Samples of cached videos as tensors."""

    def __init__(
        self, videos: list[CachedVideo], sampler: WindowSampler, *, batch_size: int, device: torch.device
    ) -> None:
        self._videos, self._sampler, self._device = videos, sampler, device
        self._batch_size = batch_size
        self._pasting = Pasting(videos, sampler) if sampler.config.paste else None

    def batch(self, numbers: range) -> Batch:
        """One shard of a step."""
        samples = [self._sampler.sample(number) for number in numbers]
        windows = [self._window(sample) for sample in samples]
        xy_net = torch.from_numpy(np.stack([xy for _, xy in windows]))
        step, shard = divmod(numbers.start, self._batch_size)
        seed = np.random.default_rng([self._sampler.seed, 2, step, shard]).integers(2**62)
        return Batch(
            self._pictures(samples, [cut for cut, _ in windows]),
            xy_net.to(self._device, non_blocking=True),
            torch.Generator().manual_seed(int(seed)),
            torch.from_numpy(np.stack([self._hard(sample) for sample in samples])).to(self._device, non_blocking=True),
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
        cut = video.pixels[:, *around][torch.from_numpy(frames.copy())]
        xy_net = self._positions(sample, video.sampling.xy_net[frames])
        if self._pasting is not None and np.isnan(xy_net).all():
            cut, pasted_xy_net = self._pasting.onto(cut, sample, (left, top))
            xy_net = self._positions(sample, pasted_xy_net)
        if video.background is not None:
            cut = torch.cat([video.background[around][None], cut])
        return cut, xy_net

    def _pictures(self, samples: list[Sample], cuts: list[torch.Tensor]) -> torch.Tensor:
        """Zoom and mirror in one pass over the whole batch; float32 [B, pictures, 3, h, w] on the device."""
        out_w, out_h = self._sampler.config.crop_wh
        cut_w, cut_h = self._cut_wh
        thetas = np.zeros((len(samples), 2, 3), np.float32)
        for theta, sample in zip(thetas, samples, strict=True):
            x0, y0, width, height = sample.crop
            left, top = self._corner(sample)
            theta[0] = width / cut_w, 0, (2 * (x0 - left) + width) / cut_w - 1
            theta[1] = 0, height / cut_h, (2 * (y0 - top) + height) / cut_h - 1
            theta[0, 0] *= -1 if sample.mirrored else 1
        padded = [F.pad(cut, (0, 0, 0, cut_w - cut.shape[2], 0, cut_h - cut.shape[1])) for cut in cuts]
        stacked = torch.stack(padded).to(self._device, non_blocking=True)  # uint8 [B, T, cut_h, cut_w, 3]
        planes = stacked.permute(0, 1, 4, 2, 3).flatten(1, 2).float() / 255
        grid = F.affine_grid(
            torch.from_numpy(thetas).to(self._device), [len(samples), 1, out_h, out_w], align_corners=False
        )
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

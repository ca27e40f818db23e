"""Samples to tensors: windows cut from cached videos, resized, and prepared by background threads."""

# B batch, T frames in window, C channel, H W network px

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from specktrack.sampling import Sample, WindowSampler
from specktrack.training.frame_cache import CachedVideo

AHEAD = 2
"""Batches that are prepared while the network works."""


@dataclass(frozen=True)
class Batch:
    """One rank's share of one step."""

    step: int
    frames_BTCHW: torch.Tensor
    """float32 in [0, 1]."""
    xy_net: torch.Tensor
    """float32 [B, T, 2] in px of the crop; NaN where absent or outside it."""
    generator: torch.Generator
    """For what is still drawn at random for this batch; on the CPU."""


class Batches:
    """This rank's batches from ``first_step`` on, prepared ahead of the training loop."""

    def __init__(
        self,
        videos: list[CachedVideo],
        sampler: WindowSampler,
        *,
        batch_size: int,
        steps: range,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        self._videos, self._sampler, self._device = videos, sampler, device
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._steps = steps

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="batches") as pool:
            pending = deque(pool.submit(self.batch, step) for step in self._steps[:AHEAD])
            for step in self._steps[AHEAD:]:
                yield pending.popleft().result()
                pending.append(pool.submit(self.batch, step))
            while pending:
                yield pending.popleft().result()

    def batch(self, step: int) -> Batch:
        """The share of this rank in ``step``: every ``world_size``-th sample of the global batch."""
        numbers = range(step * self._batch_size + self._rank, (step + 1) * self._batch_size, self._world_size)
        parts = [self._window(self._sampler.sample(number)) for number in numbers]
        frames = torch.stack([pixels for pixels, _ in parts])
        xy_net = torch.from_numpy(np.stack([xy for _, xy in parts]))
        seed = np.random.default_rng([self._sampler.seed, 2, step, self._rank]).integers(2**62)
        generator = torch.Generator().manual_seed(int(seed))
        return Batch(step, frames, xy_net.to(self._device, non_blocking=True), generator)

    def _window(self, sample: Sample) -> tuple[torch.Tensor, np.ndarray]:
        """Pixels float [T, 3, H, W] on the device and positions [T, 2] of one sample."""
        video = self._videos[sample.video]
        x0, y0, width, height = sample.crop
        stop = sample.start + (self._sampler.frames_in - 1) * sample.step + 1
        frames = slice(sample.start, stop, sample.step)
        crop = video.pixels[frames, y0 : y0 + height, x0 : x0 + width].to(self._device)
        out_w, out_h = self._sampler.config.crop_wh
        pixels = F.interpolate(
            crop.permute(0, 3, 1, 2).float() / 255, size=(out_h, out_w), mode="bilinear", antialias=True
        )
        scale = np.array([out_w / width, out_h / height], np.float32)
        xy = (video.sampling.xy_net[frames] - (x0, y0) + 0.5) * scale - 0.5
        with np.errstate(invalid="ignore"):
            outside = ~((xy > -0.5) & (xy < (out_w - 0.5, out_h - 0.5))).all(axis=1)
        xy[outside] = np.nan
        if sample.mirrored:
            pixels, xy[:, 0] = pixels.flip(-1), out_w - 1 - xy[:, 0]
        if sample.reversed_time:
            pixels, xy = pixels.flip(0), xy[::-1].copy()
        return pixels, xy.astype(np.float32)

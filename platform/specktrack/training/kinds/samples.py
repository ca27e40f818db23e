"""Training samples for kind networks: crops of one labelled object from consecutive frames, augmented alike.

Every draw is a function of (seed, sample number). A kind is drawn first, then a dataset that has it, then an object,
each uniformly, so a long clip counts no more than a short one.
"""

# B batch, T frames in a sample, S side of a picture, M side of what is cut for it (source px), N frames of a video

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from specktrack.training.kinds.config import KindSamplingConfig

T = TypeVar("T")

MARGIN = 1 / 6
"""Of a picture's side, cut beside it on each of its sides: room to shift, turn and shrink."""


@dataclass(frozen=True)
class ObjectCrops:
    """Crops of one labelled object of one video."""

    kind: int
    """Which of the network's kinds it is."""
    dataset: int
    luma: np.ndarray
    """uint8 [N, M, M] around its labels, those of consecutive rows."""


class KindBatch(NamedTuple):
    """Samples as tensors."""

    luma_BTSS: torch.Tensor
    kind_B: torch.Tensor


class KindSampler:
    """The endless list of samples."""

    def __init__(
        self, crops: Sequence[ObjectCrops], *, side: int, run: int, config: KindSamplingConfig, seed: int
    ) -> None:
        """``side`` is S, ``run`` the most frames that a sample's pictures come from."""
        self._side, self._run, self._config, self._seed = side, run, config, seed
        self._groups: dict[int, dict[int, list[ObjectCrops]]] = {}
        for crop in crops:
            self._groups.setdefault(crop.kind, {}).setdefault(crop.dataset, []).append(crop)

    @property
    def kinds(self) -> set[int]:
        """Numbers of the kinds that there are."""
        return set(self._groups)

    def batch(self, numbers: Sequence[int]) -> KindBatch:
        """Those samples of the run."""
        drawn = [self._sample(number) for number in numbers]
        return KindBatch(torch.stack([luma for luma, _ in drawn]), torch.tensor([kind for _, kind in drawn]))

    def _sample(self, number: int) -> tuple[torch.Tensor, int]:
        """Pictures uint8 [T, S, S] and their kind."""
        draw = np.random.default_rng([self._seed, number])
        kind = _one(draw, sorted(self._groups))
        crops = self._groups[kind]
        crop = _one(draw, crops[_one(draw, sorted(crops))])
        run = min(len(crop.luma), round(self._run ** draw.random()))
        start = draw.integers(0, len(crop.luma) - run + 1)
        chosen = start + np.sort(draw.integers(0, run, self._config.frames))
        return _varied(crop.luma[chosen], self._side, self._config, draw), kind


def _one(draw: np.random.Generator, among: Sequence[T]) -> T:
    return among[int(draw.integers(len(among)))]


def _varied(luma: np.ndarray, side: int, config: KindSamplingConfig, draw: np.random.Generator) -> torch.Tensor:
    """Pictures uint8 [T, S, S] of what was cut, uint8 [T, M, M]: all shown alike, each a little off its centre."""
    pixels = torch.from_numpy(_seen(luma, config, draw))[:, None]
    angle = np.deg2rad(draw.uniform(-config.rotation_deg, config.rotation_deg))
    zoom = np.exp(draw.uniform(-1, 1) * np.log1p(config.scale))
    mirrored = -1.0 if draw.random() < 0.5 else 1.0
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    off_px = draw.normal(0, config.jitter_px, 2) + draw.normal(0, config.jitter_px, (len(luma), 2))
    share = side / luma.shape[-1]
    theta = np.zeros((len(luma), 2, 3))
    theta[:, :, :2] = np.array([[cosine * mirrored, -sine], [sine * mirrored, cosine]]) * share
    theta[:, :, 2] = off_px * 2 / luma.shape[-1]
    grid = F.affine_grid(torch.from_numpy(theta).float(), [len(luma), 1, side, side], align_corners=False)
    shown = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]
    if draw.random() < config.blurred:
        shown = _blurred(shown, float(draw.uniform(0.4, 1.2)))
    noise = draw.normal(0, draw.uniform(0, config.noise) + 1e-6, shown.shape).astype(np.float32)
    return (shown + torch.from_numpy(noise)).round().clamp(0, 255).to(torch.uint8)


def _seen(luma: np.ndarray, config: KindSamplingConfig, draw: np.random.Generator) -> np.ndarray:
    """Pictures float32 with another brightness curve, and some as a negative."""
    levels = (np.arange(256) / 255) ** np.exp(draw.uniform(-config.gamma, config.gamma)) * 255
    if draw.random() < config.inverted:
        levels = 255 - levels
    return levels.astype(np.float32)[luma]


def _blurred(pixels_TSS: torch.Tensor, sigma_px: float) -> torch.Tensor:
    at = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-at.square() / (2 * sigma_px**2))
    kernel = kernel / kernel.sum()
    rows = F.conv2d(F.pad(pixels_TSS[:, None], (3, 3, 3, 3), mode="replicate"), kernel[None, None, :, None])
    return F.conv2d(rows, kernel[None, None, None, :])[:, 0]

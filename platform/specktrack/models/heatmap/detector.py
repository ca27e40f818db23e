"""Running a heatmap network: from windows to heatmaps and their candidates."""

# B batch, T frames in window, N frames, K candidates, C channel, H W network px, H' W' heatmap px

from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch

from specktrack import heatmap
from specktrack.models.heatmap.entries import Decoding
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.inference import channels_last, fast_dtype, fold_batch_norm


class Engine(Protocol):
    """Runs a heatmap network: ``Eager`` is the reference, ``models.heatmap.engines`` has the others."""

    name: str
    """As ``models.heatmap.engines`` names it."""

    def __call__(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """float32 heatmaps in [0, 1], [B, frames_out, H', W'], of uint8 windows [B, pictures_in, H, W, 3]."""
        ...


Engines = Callable[[tuple[int, int]], Engine]
"""From width and height of the pictures to what runs the network on them."""


class Eager:
    """torch, layer by layer, batch norm folded."""

    def __init__(self, network: HeatmapNetwork, *, device: torch.device, dtype: torch.dtype) -> None:
        self.name = "eager" if dtype == torch.float32 else "eager-bf16"
        self._device, self._dtype = device, dtype
        self._network = channels_last(fold_batch_norm(network).to(device, dtype))

    @torch.inference_mode()
    def __call__(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """See Engine."""
        windows = windows_BTHWC.to(self._device, non_blocking=True)
        frames = windows.permute(0, 1, 4, 2, 3).to(self._dtype).div_(255)
        return self._network.probabilities(self._network(frames))


class Detector:
    """Frames to candidates by one windowed network, on one device."""

    def __init__(
        self,
        network: HeatmapNetwork,
        *,
        device: torch.device,
        candidates: int = 4,
        decoding: Decoding = "peaks",
        engines: Engines | None = None,
    ) -> None:
        self.config, self.device, self.dtype = network.config, device, fast_dtype(device)
        self.candidates, self.decoding = candidates, decoding
        if engines is None:
            eager = Eager(network, device=device, dtype=self.dtype)
        self._engine_for = cache(engines or (lambda wh_px: eager))
        self.windows_at_once = 8 if device.type == "cuda" else 1
        """Windows that a session hands over together: on a CPU eight take as long as one after the other."""

    def engine(self, wh_px: tuple[int, int]) -> Engine:
        """The engine for pictures of ``wh_px``."""
        return self._engine_for(wh_px)

    def heatmaps(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """As Engine."""
        return self.engine((windows_BTHWC.shape[3], windows_BTHWC.shape[2]))(windows_BTHWC)

    @torch.inference_mode()
    def decode(self, heatmaps_NHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Candidate positions [N, K, 2] (network px) and scores [N, K] on the CPU, best first."""
        stride = self.config.target.stride
        if self.decoding != "peaks":
            return heatmap.decode_published(self.decoding, heatmaps_NHW, stride=stride, candidates=self.candidates)
        xy, score = heatmap.decode(heatmaps_NHW, stride=stride, candidates=self.candidates)
        return xy.cpu(), score.cpu()


class MirroredDetector(Detector):
    """A detector that also sees every window mirrored, and gives the mean of both heatmaps."""

    def __init__(self, detector: Detector) -> None:
        vars(self).update(vars(detector))
        self._detector = detector

    def heatmaps(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """As Detector.heatmaps."""
        mirrored = self._detector.heatmaps(windows_BTHWC.flip(-2)).flip(-1)
        return (self._detector.heatmaps(windows_BTHWC) + mirrored) / 2

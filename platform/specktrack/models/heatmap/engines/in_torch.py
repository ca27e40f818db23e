"""Engines of torch: layer by layer, compiled, or recorded as one CUDA graph."""

# B batch, T frames in window, H W network px

import torch
from torch import nn

from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.detector import Eager
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.inference import channels_last, fast_dtype, fold_batch_norm


def eager(model: Model, wh_px: tuple[int, int], device: torch.device) -> Eager:
    """The reference."""
    return Eager(_network(model), device=device, dtype=torch.float32)


def eager_bf16(model: Model, wh_px: tuple[int, int], device: torch.device) -> Eager:
    """The same in half the bits; slower where the processor has no instructions for it."""
    return Eager(_network(model), device=device, dtype=torch.bfloat16)


class Compiled:
    """The network by torch.compile, its weights part of the program. Its first pass compiles, for a minute."""

    name = "compiled"

    def __init__(self, model: Model, wh_px: tuple[int, int], device: torch.device) -> None:
        self._device, self._dtype = device, fast_dtype(device)
        whole = _FromPictures(channels_last(fold_batch_norm(_network(model)).to(device, self._dtype)), self._dtype)
        self._run = torch.compile(whole.eval(), options={"freezing": device.type == "cpu"})
        width, height = wh_px
        self(
            torch.zeros(1, whole.network.config.pictures_in, height, width, 3, dtype=torch.uint8)
        )  # fails here or never

    @torch.no_grad()  # freezing knows this and not inference_mode
    def __call__(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """See Engine."""
        heatmaps: torch.Tensor = self._run(windows_BTHWC.to(self._device, non_blocking=True))
        return heatmaps


class CudaGraphs:
    """The network's kernels recorded once for each size of batch: a pass is one launch instead of hundreds."""

    name = "cuda-graphs"

    def __init__(self, model: Model, wh_px: tuple[int, int], device: torch.device) -> None:
        if device.type != "cuda":
            raise ConfigError("CUDA graphs need a CUDA device", device.type, remedy="use engine=auto")
        network = channels_last(fold_batch_norm(_network(model)).to(device, torch.bfloat16))
        self._device, self._whole = device, _FromPictures(network, torch.bfloat16)
        self._recorded: dict[torch.Size, tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """See Engine."""
        shape = windows_BTHWC.shape
        if shape not in self._recorded:
            self._recorded[shape] = self._record(shape)
        graph, windows, heatmaps = self._recorded[shape]
        windows.copy_(windows_BTHWC, non_blocking=True)
        graph.replay()
        return heatmaps.clone()  # the next replay writes into it

    def _record(self, shape: torch.Size) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]:
        windows, beside = torch.zeros(shape, dtype=torch.uint8, device=self._device), torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # what libraries set up in their first passes may not be recorded
            for _ in range(3):
                self._whole(windows)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            heatmaps = self._whole(windows)
        return graph, windows, heatmaps


class _FromPictures(nn.Module):
    """The computation of ``Eager`` as one module."""

    def __init__(self, network: HeatmapNetwork, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self._dtype = network, dtype

    def forward(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        frames = windows_BTHWC.permute(0, 1, 4, 2, 3).to(self._dtype).div_(255)
        return self.network.probabilities(self.network(frames))


def _network(model: Model) -> HeatmapNetwork:
    assert isinstance(model.network, HeatmapNetwork)
    return model.network

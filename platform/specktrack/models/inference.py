"""A trained network made ready to run: batch norm folded, channels last, bf16 where the processor has it."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from specktrack import heatmap
from specktrack.models.heatmap_network import HeatmapNetwork
from specktrack.models.network import Network
from specktrack.models.windowed_entries import Decoding

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bf16 where it pays (CUDA, CPUs with AVX512-bf16 or AMX), else fp32; measured in docs/log.md."""
    if device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_native_bf16() else torch.float32


def _has_native_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class Detector:
    """Frames to candidates by one windowed network, on one device."""

    def __init__(
        self, network: HeatmapNetwork, *, device: torch.device, candidates: int = 4, decoding: Decoding = "peaks"
    ) -> None:
        self.config, self.device, self.dtype = network.config, device, fast_dtype(device)
        self.candidates, self.decoding = candidates, decoding
        self._network = channels_last(fold_batch_norm(network).to(device, self.dtype))
        self.windows_at_once = 8 if device.type == "cuda" else 1
        """Windows that a session hands over together: on a CPU eight take as long as one after the other."""

    @torch.inference_mode()
    def heatmaps(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """float32 heatmaps in [0, 1], [B, frames_out, H', W'], of uint8 windows [B, pictures_in, H, W, 3]."""
        windows = windows_BTHWC.to(self.device, non_blocking=True)
        frames = windows.permute(0, 1, 4, 2, 3).to(self.dtype).div_(255)
        return self._network.probabilities(self._network(frames))

    @torch.inference_mode()
    def decode(self, heatmaps_NHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Candidate positions [N, K, 2] (network px) and scores [N, K] on the CPU, best first."""
        stride = self.config.target.stride
        if self.decoding != "peaks":
            return heatmap.decode_published(self.decoding, heatmaps_NHW, stride=stride, candidates=self.candidates)
        xy, score = heatmap.decode(heatmaps_NHW, stride=stride, candidates=self.candidates)
        return xy.cpu(), score.cpu()


def channels_last(network: AnyNetwork) -> AnyNetwork:
    """``network`` itself with its convolution weights in channels-last order, which every fast kernel wants."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def fold_batch_norm(network: AnyNetwork) -> AnyNetwork:
    """A copy in evaluation mode in which every batch norm that directly follows its convolution is folded into it."""
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        if isinstance(parent, nn.Sequential):
            for i in range(len(parent) - 1):
                conv, norm = parent[i], parent[i + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    parent[i], parent[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return folded

"""A trained network made ready to run: batch norm folded, channels last, bf16 where the processor has it."""

import copy
import time
from functools import cache
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from specktrack.models.machine import remembered
from specktrack.models.network import Network

AnyNetwork = TypeVar("AnyNetwork", bound=Network)

_ROUNDS = 8


@cache
def fast_dtype(device: torch.device) -> torch.dtype:
    """bf16 on CUDA, and on the CPUs that are faster with it: with AMX most are, with AVX-512 bf16 alone some."""
    if device.type == "cuda":
        return torch.bfloat16
    if not has_bf16(device):
        return torch.float32
    seconds = remembered(_convolution_s, "precision")
    return torch.bfloat16 if seconds["bfloat16"] < seconds["float32"] else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether it computes in bf16, and does not only store it."""
    if device.type == "cuda":
        return True
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return native and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@torch.inference_mode()
def _convolution_s() -> dict[str, float]:
    """Seconds of one convolution as the networks have them, in either precision, measured in turns."""
    weight, picture = torch.rand(64, 64, 3, 3), torch.rand(1, 64, 108, 192)
    seconds: dict[str, float] = {}
    for _ in range(_ROUNDS):
        for dtype in (torch.float32, torch.bfloat16):
            x, w = (value.to(dtype, memory_format=torch.channels_last) for value in (picture, weight))
            started = time.perf_counter()
            functional.conv2d(x, w, padding=1)
            name, taken = str(dtype).removeprefix("torch."), time.perf_counter() - started
            seconds[name] = min(taken, seconds.get(name, taken))
    return seconds


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

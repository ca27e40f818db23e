"""A trained network made ready to run: batch norm folded, channels last, bf16 where the processor has it."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from specktrack.models.network import Network

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bf16 where it pays (CUDA, CPUs with AVX512-bf16 or AMX), else fp32; measured in docs/log.md."""
    if device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_native_bf16() else torch.float32


def _has_native_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


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

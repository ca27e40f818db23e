"""The precision in which networks are trained."""

import torch

from specktrack.models.inference import fast_dtype
from specktrack.training.config import TrainConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def dtype_of(config: TrainConfig, device: torch.device) -> torch.dtype:
    """The type that ``precision`` means on ``device``."""
    return fast_dtype(device) if config.precision == "auto" else DTYPES[config.precision]


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """A block in which networks compute in that type."""
    dtype = dtype_of(config, device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

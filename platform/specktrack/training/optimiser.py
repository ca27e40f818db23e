"""Optimisers by the names that recipes use."""

from collections.abc import Iterable

import torch
from torch import nn

from specktrack.training.config import OneRateConfig


def make_optimiser(config: OneRateConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of ``config``; biases and norms are not decayed."""
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimiser == "adadelta":
        # Keras' figures, as in the code of TrackNet V1, V2 and V4; torch's own epsilon takes longer first steps.
        return torch.optim.Adadelta(groups, lr=config.learning_rate, rho=0.95, eps=1e-7)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate)

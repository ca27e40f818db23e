"""Optimisers and learning-rate schedules by the names that recipes use."""

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import nn


class Optimising(Protocol):
    """What a training configuration of any family says about its optimiser."""

    @property
    def optimiser(self) -> str: ...  # noqa: D102
    @property
    def schedule(self) -> str: ...  # noqa: D102
    @property
    def milestones(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def warmup_steps(self) -> int: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def clip_norm(self) -> float: ...  # noqa: D102
    @property
    def average(self) -> float: ...  # noqa: D102


def make_optimiser(config: Optimising, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
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


def learning_rate(config: Optimising, step: int) -> float:
    """The learning rate of a step: linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "steps":
        passed = sum(step >= round(share * config.steps) for share in config.milestones)
        return config.learning_rate * 0.1**passed
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

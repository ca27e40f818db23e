"""The training loop of one worker, whatever the family of its network. It reads in the order in which things happen."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeVar

import ray.train
import torch

from specktrack.training.checkpoints import checkpoint
from specktrack.training.config import TrainConfig
from specktrack.training.journal import Journal
from specktrack.training.shards import mean_over_workers
from specktrack.training.state import TrainState

Batch = TypeVar("Batch")


def train_loop(values: dict[str, Any]) -> None:
    """Train as one worker of a TorchTrainer; ``values`` is the run's configuration as JSON."""
    config = TrainConfig.read(values)
    module, _, name = config.loop.partition(":")
    getattr(import_module(module), name)(config)


def train_steps(
    config: TrainConfig,
    state: TrainState[Any],
    batches: Iterable[Batch],
    learn: Callable[[Batch], dict[str, torch.Tensor]],
    *,
    measure: Callable[[], dict[str, Any]] | None = None,
    measure_every: int = 1,
) -> None:
    """``learn`` from every batch moves ``state`` on by a step; ``measure`` gives the figures on held-out data."""
    rank = ray.train.get_context().get_world_rank()
    with Journal(config, enabled=rank == 0, first_step=state.step) as journal:
        for batch in batches:
            results = learn(batch)
            last = state.step == config.steps
            if state.step % config.log_every == 0 or state.step == 1 or last:
                mean_over_workers(list(results.values()))
                journal.write(state.step, "train", {**results, **state.figures()})
            if measure and rank == 0 and (state.step % measure_every == 0 or last):
                figures = measure()
                journal.write(state.step, "validation", figures)
                if state.best:
                    state.best.offer(state.average, figures)
                    journal.note("validation", state.best.figures)
            if state.step % config.checkpoint_every == 0 or last:
                checkpoint(state, journal, rank, kept=config.workers > 0)
        if rank == 0:
            journal.save_model(state.best.network if state.best else state.average)

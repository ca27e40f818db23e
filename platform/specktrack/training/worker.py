"""One worker of a training run, for networks of every family. It reads in the order in which things happen."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from specktrack.training.checkpoints import checkpoint, restore
from specktrack.training.config import TrainConfig
from specktrack.training.course import Course, course_of
from specktrack.training.journal import Journal
from specktrack.training.precision import autocast
from specktrack.training.prefetch import prefetched, prefetched_in_order
from specktrack.training.shards import mean_over_workers, shards_of
from specktrack.training.start import first_rank_first
from specktrack.training.state import TrainState
from specktrack.training.streaming import streamed
from specktrack.training.waiting import Waiting


def train_worker(values: dict[str, Any]) -> None:
    """Train as one worker of a TorchTrainer; ``values`` is the run's configuration as JSON."""
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    with first_rank_first():
        course = course_of(TrainConfig.read(values), ray.train.torch.get_device())
    config = course.config
    state = course.state(course.network())
    restore(state)
    alone = Learner(course, state)
    learner = ray.train.torch.prepare_model(alone, parallel_strategy_kwargs=alone.parallel)

    batches = _batches(course, range(state.step, config.steps), rank=rank, workers=workers)
    waiting = Waiting()
    with Journal(config, enabled=rank == 0, first_step=state.step) as journal:
        for shards in waiting.over(batches):
            results = learn(learner, state, shards)
            last = state.step == config.steps
            if state.step % config.log_every == 0 or state.step == 1 or last:
                results["waited"] = torch.tensor(waiting.share(), device=course.device)
                mean_over_workers(list(results.values()))
                journal.write(state.step, "train", {**results, **state.figures()})
            if rank == 0 and config.measures and (state.step % config.validate_every == 0 or last):
                _validate(course, state, journal)
            if state.step % config.checkpoint_every == 0 or last:
                journal.publish()
                checkpoint(state, journal, rank, kept=config.workers > 0)
        if rank == 0:
            journal.save_model(state.best.network if state.best else state.average)


def _batches(course: Course, steps: range, *, rank: int, workers: int) -> Iterator[tuple[Any, ...]]:
    """A worker's shards of each step, prepared while it works on earlier ones."""
    config = course.config

    def mine(step: int) -> list[range]:
        return shards_of(step, batch_size=config.batch_size, parts=config.parts, rank=rank, workers=workers)

    if config.stream != "always" or config.workers == 0:
        return prefetched(lambda step: tuple(map(course.samples, mine(step))), steps)
    read = streamed(mine)
    return prefetched_in_order(lambda step: tuple(map(course.batch, mine(step), read(step))), steps)


class Learner(nn.Module):
    """The module that DistributedDataParallel wraps: its forward gives the loss, so that gradients are shared."""

    def __init__(self, course: Course, state: TrainState[Any]) -> None:
        super().__init__()
        self.course, self.trained = course, nn.ModuleDict(state.trained)

    def forward(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss, with its gradient, and detached figures."""
        with autocast(self.course.config, self.course.device):
            loss, figures = self.course.loss(self.trained["network"], batch)
        return loss, {name: figure.detach() for name, figure in figures.items()}

    @property
    def parallel(self) -> dict[str, bool]:
        """How DistributedDataParallel wraps it: buffers are averaged by the state, once per step."""
        return {"broadcast_buffers": False, "find_unused_parameters": self.course.skips_weights}


def learn(learner: nn.Module, state: TrainState[Any], shards: tuple[Any, ...]) -> dict[str, torch.Tensor]:
    """Forward and backward for every shard, then one update; returns the figures of the step."""
    sums: dict[str, torch.Tensor] = {}
    for number, shard in enumerate(shards, 1):
        parallel = learner if isinstance(learner, DistributedDataParallel) else None
        # Workers exchange gradients once per step.
        with parallel.no_sync() if parallel and number < len(shards) else nullcontext():
            loss, figures = learner(shard)
            (loss / len(shards)).backward()
        sums = {name: sums.get(name, 0) + figure / len(shards) for name, figure in figures.items()}
        if number < len(shards):
            state.buffers.next_shard()
    state.apply()
    return sums


def _validate(course: Course, state: TrainState[Any], journal: Journal) -> None:
    """Measure the averaged weights, and keep them if they are the best so far."""
    if not (figures := course.measure(state.average)):
        return
    journal.write(state.step, "validation", figures)
    if state.best:
        state.best.offer(state.average, figures)
        journal.note("validation", state.best.figures)

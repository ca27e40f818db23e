"""Training a network on windows of frames, as one worker."""

from functools import partial
from pathlib import Path

import ray.train
import ray.train.torch
import torch
from torch import nn

from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model, load_model
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.sampling import WindowSampler
from specktrack.training.batches import Batches
from specktrack.training.checkpoints import restore
from specktrack.training.distill import Distillation, window_frames
from specktrack.training.frame_cache import CachedVideo, load_videos
from specktrack.training.learner import Learner, learn
from specktrack.training.loop import train_steps
from specktrack.training.mining import with_hard_frames
from specktrack.training.start import first_network, first_rank_first
from specktrack.training.state import TrainState
from specktrack.training.validation import validate
from specktrack.training.windowed_config import WindowedTrainConfig


def train_windowed(config: WindowedTrainConfig) -> None:
    """Read the videos, make the samples' list and the network, go on where the run stopped."""
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    teacher = load_model(config.distill.teacher) if config.distill else None
    training, held_out = _videos(config, device, teacher)
    sampler = sampler_of(config, training, teacher)
    config = config.with_steps(windows=len(sampler))
    state = _state(config, device, teacher)
    learner = _learner(state, config)
    batches = Batches(
        training,
        sampler,
        batch_size=config.batch_size,
        steps=range(state.step, config.steps),
        shards=range(context.get_world_rank(), config.parts, context.get_world_size()),
        parts=config.parts,
        device=device,
    )
    train_steps(
        config, state, batches, lambda shards: learn(learner, state, shards, config),
        measure=partial(validate, state.average, held_out, device) if held_out else None,
        measure_every=config.validate_every,
    )  # fmt: skip


def _videos(
    config: WindowedTrainConfig, device: torch.device, teacher: Model | None
) -> tuple[list[CachedVideo], list[CachedVideo]]:
    """Training and validation videos."""
    folder = Path(config.cache).expanduser()
    background = any(entry.pictures_in > entry.frames_in for entry in _entries(config, teacher))
    load = partial(
        load_videos, input_wh=config.network.input_wh, folder=folder, background=background,
        draw_occluded=config.occluded == "drawn",
    )  # fmt: skip
    with first_rank_first():
        training, held_out = load(config.data), load(config.validation)
        if config.mining:
            training = with_hard_frames(training, load_model(config.mining.model), device, folder)
    if every := config.hold_out_every:
        held_out = held_out + training[every - 1 :: every]
        training = [video for index, video in enumerate(training) if (index + 1) % every]
    if config.best_by and not held_out:
        raise ConfigError(
            f"keep={config.keep} has no video to measure on", every, "hold_out_every", "give a smaller one"
        )
    return [video.to(device) for video in training], held_out


def _entries(config: WindowedTrainConfig, teacher: Model | None) -> list[WindowedConfig]:
    """Whose frames a batch holds: the network's, and its teacher's."""
    taught = teacher.config if teacher else config.network
    assert isinstance(taught, WindowedConfig)
    return [config.network, taught]


def _state(config: WindowedTrainConfig, device: torch.device, teacher: Model | None) -> TrainState[HeatmapNetwork]:
    network = first_network(config)
    assert isinstance(network, HeatmapNetwork)
    distillation = None
    if teacher and config.distill:
        distillation = Distillation(network.to(device), teacher, config.distill, device)
    state = TrainState(network, config, device, extra=distillation, best_by=config.best_by)
    restore(state)
    return state


def _learner(state: TrainState[HeatmapNetwork], config: WindowedTrainConfig) -> nn.Module:
    if config.compile:
        state.network.compile()
    # Buffers are averaged by the state, once per step.
    settings = {"broadcast_buffers": False}
    learner = Learner(state.network, state.extra if isinstance(state.extra, Distillation) else None, config.mining)
    return ray.train.torch.prepare_model(learner, parallel_strategy_kwargs=settings)


def sampler_of(config: WindowedTrainConfig, training: list[CachedVideo], teacher: Model | None = None) -> WindowSampler:
    """The list of samples of a run."""
    return WindowSampler(
        [video.sampling for video in training],
        frames_in=window_frames(*_entries(config, teacher)),
        seed=config.seed,
        config=config.sampling,
    )

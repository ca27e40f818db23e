"""The training loop of one worker. It reads in the order in which things happen."""

from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.collective
import ray.train.torch
import torch
from torch import nn

from specktrack import telemetry
from specktrack.errors import ConfigError
from specktrack.models import build
from specktrack.models.checkpoint import Model, load_model
from specktrack.models.heatmap_network import HeatmapNetwork
from specktrack.models.repair_entries import InpaintNetConfig
from specktrack.models.windowed_entries import WindowedConfig
from specktrack.sampling import WindowSampler
from specktrack.training.batches import Batches
from specktrack.training.checkpoints import checkpoint, restore
from specktrack.training.config import TrainConfig
from specktrack.training.distill import Distillation, window_frames
from specktrack.training.frame_cache import CachedVideo, load_videos
from specktrack.training.journal import Journal
from specktrack.training.learner import Learner, learn
from specktrack.training.mining import with_hard_frames
from specktrack.training.shards import mean_over_workers
from specktrack.training.state import TrainState
from specktrack.training.trajectories import train_trajectories
from specktrack.training.validation import validate

log = telemetry.get_logger()


def train_loop(values: dict[str, Any]) -> None:
    """Train as one worker of a TorchTrainer; ``values`` is a TrainConfig as JSON."""
    config = TrainConfig.model_validate(values)
    if isinstance(config.network, InpaintNetConfig):
        train_trajectories(config)
        return
    rank = ray.train.get_context().get_world_rank()
    device = ray.train.torch.get_device()
    teacher = load_model(config.distill.teacher) if config.distill else None
    training, held_out = _videos(config, device, teacher)
    sampler = sampler_of(config, training, teacher)
    config = config.with_steps(windows=len(sampler))
    state = _state(config, device, teacher)
    learner = _learner(state, config)
    batches = _batches(config, training, sampler, state, device)
    assert isinstance(state.average, HeatmapNetwork)

    with Journal(config, enabled=rank == 0, first_step=state.step) as journal:
        for shards in batches:
            results = learn(learner, state, shards, config)
            last = state.step == config.steps
            if state.step % config.log_every == 0 or state.step == 1 or last:
                mean_over_workers(list(results.values()))
                journal.write(state.step, "train", {**results, **state.figures()})
            if held_out and rank == 0 and (state.step % config.validate_every == 0 or last):
                journal.write(state.step, "validation", validate(state.average, held_out, device))
            if state.step % config.checkpoint_every == 0 or last:
                checkpoint(state, journal, rank, kept=config.workers > 0)
        if rank == 0:
            journal.save_model(state.average)


def _videos(
    config: TrainConfig, device: torch.device, teacher: Model | None
) -> tuple[list[CachedVideo], list[CachedVideo]]:
    """Training and validation videos; the first rank of a node decodes them, the others then find the result."""
    first_on_node = ray.train.get_context().get_local_rank() == 0
    if not first_on_node:
        ray.train.collective.barrier()
    network, folder = config.network, Path(config.cache).expanduser()
    background = any(entry.pictures_in > entry.frames_in for entry in _entries(config, teacher))
    load = partial(load_videos, input_wh=network.input_wh, folder=folder, background=background)
    training, held_out = load(config.data), load(config.validation)
    if config.mining:
        training = with_hard_frames(training, load_model(config.mining.model), device, folder)
    if first_on_node:
        ray.train.collective.barrier()
    if every := config.hold_out_every:
        held_out = held_out + training[every - 1 :: every]
        training = [video for index, video in enumerate(training) if (index + 1) % every]
    return [video.to(device) for video in training], held_out


def _entries(config: TrainConfig, teacher: Model | None) -> list[WindowedConfig]:
    """Whose frames a batch holds: the network's, and its teacher's."""
    taught = teacher.config if teacher else config.network
    assert isinstance(taught, WindowedConfig)
    assert isinstance(config.network, WindowedConfig)
    return [config.network, taught]


def _state(config: TrainConfig, device: torch.device, teacher: Model | None) -> TrainState:
    """Fresh, started from other weights, or as the last checkpoint of this run left it."""
    torch.manual_seed(config.seed)  # initial weights: the one draw that torch offers no generator for
    network = build(config.network).train()
    assert isinstance(network, HeatmapNetwork)
    if config.init:
        start_from(network, load_model(config.init))
    distillation = None
    if teacher and config.distill:
        distillation = Distillation(network.to(device), teacher, config.distill, device)
    state = TrainState(network, config, device, extra=distillation)
    restore(state)
    return state


def start_from(network: HeatmapNetwork, model: Model) -> None:
    """Take over all weights of ``model``; what ``network`` has beyond them stays fresh.

    So a network with an addition (TrackNetV4's motion prompt) starts from its base. ConfigError if weights do not fit.
    """
    place = f"init {model.card.name} for {network.config.name}"
    try:
        fit = network.load_state_dict(model.network.state_dict(), strict=False)
    except RuntimeError as error:
        first = str(error).partition("\n\t")[2].partition("\n")[0]
        raise ConfigError("weights of another shape", first, place) from None
    if fit.unexpected_keys:
        raise ConfigError("weights that the network has no place for", fit.unexpected_keys[0], place)
    if fit.missing_keys:
        log.info("fresh weights beside those of init", names=fit.missing_keys[:5], tensors=len(fit.missing_keys))


def _learner(state: TrainState, config: TrainConfig) -> nn.Module:
    assert isinstance(state.network, HeatmapNetwork)
    if config.compile:
        state.network.compile()
    # Buffers are averaged by the state, once per step.
    settings = {"broadcast_buffers": False}
    learner = Learner(state.network, state.extra if isinstance(state.extra, Distillation) else None, config.mining)
    return ray.train.torch.prepare_model(learner, parallel_strategy_kwargs=settings)


def sampler_of(config: TrainConfig, training: list[CachedVideo], teacher: Model | None = None) -> WindowSampler:
    """The list of samples of a run."""
    return WindowSampler(
        [video.sampling for video in training],
        frames_in=window_frames(*_entries(config, teacher)),
        seed=config.seed,
        config=config.sampling,
    )


def _batches(
    config: TrainConfig, training: list[CachedVideo], sampler: WindowSampler, state: TrainState, device: torch.device
) -> Batches:
    context = ray.train.get_context()
    return Batches(
        training,
        sampler,
        batch_size=config.batch_size,
        steps=range(state.step, config.steps),
        shards=range(context.get_world_rank(), config.parts, context.get_world_size()),
        parts=config.parts,
        device=device,
    )

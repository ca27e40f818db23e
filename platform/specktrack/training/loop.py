"""The training loop of one worker. It reads in the order in which things happen."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.collective
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from torch import nn

from specktrack import augment
from specktrack.models import build
from specktrack.models.checkpoint import load_model
from specktrack.models.heatmap_network import HeatmapNetwork
from specktrack.models.inference import fast_dtype
from specktrack.sampling import WindowSampler
from specktrack.training.batches import Batch, Batches
from specktrack.training.config import TrainConfig
from specktrack.training.frame_cache import CachedVideo, load_videos
from specktrack.training.journal import Journal
from specktrack.training.state import TrainState
from specktrack.training.validation import validate


def train_loop(values: dict[str, Any]) -> None:
    """Train as one worker of a TorchTrainer; ``values`` is a TrainConfig as JSON."""
    config = TrainConfig.model_validate(values)
    rank = ray.train.get_context().get_world_rank()
    device = ray.train.torch.get_device()
    training, held_out = _videos(config, device)
    state = _state(config, device)
    network = ray.train.torch.prepare_model(_WithLoss(state.network))
    batches = _batches(config, training, state, device)

    with Journal(config, enabled=rank == 0, first_step=state.step) as journal:
        for batch in batches:
            results = _learn(network, state, batch, config)
            last = state.step == config.steps
            if state.step % config.log_every == 0 or state.step == 1 or last:
                journal.write(state.step, "train", {**results, "learning_rate": state.learning_rate()})
            if held_out and rank == 0 and (state.step % config.validate_every == 0 or last):
                journal.write(state.step, "validation", validate(state.average, held_out, device))
            if state.step % config.checkpoint_every == 0 or last:
                _checkpoint(state, journal, rank)
        if rank == 0:
            journal.save_model(state.average)


class _WithLoss(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss, so that gradients meet."""

    def __init__(self, network: HeatmapNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames_BTCHW: torch.Tensor, xy_net: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.network.loss(frames_BTCHW, xy_net)


def _learn(network: nn.Module, state: TrainState, batch: Batch, config: TrainConfig) -> dict[str, torch.Tensor]:
    """Augment, forward, backward, update; returns the metrics of the step."""
    device = batch.frames_BTCHW.device
    frames = augment.photometric(batch.frames_BTCHW, config.augment, batch.generator)
    dtype = fast_dtype(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        results = network(frames, batch.xy_net)
    state.update(results["loss"])
    return {name: value.detach() for name, value in results.items()}


def _videos(config: TrainConfig, device: torch.device) -> tuple[list[CachedVideo], list[CachedVideo]]:
    """Training and validation videos; the first rank of a node decodes them, the others then find the result."""
    first_on_node = ray.train.get_context().get_local_rank() == 0
    if not first_on_node:
        ray.train.collective.barrier()
    load = partial(load_videos, input_wh=config.network.input_wh, folder=Path(config.cache).expanduser())
    training, held_out = load(config.data), load(config.validation)
    if first_on_node:
        ray.train.collective.barrier()
    if every := config.hold_out_every:
        held_out = held_out + training[every - 1 :: every]
        training = [video for index, video in enumerate(training) if (index + 1) % every]
    return [video.to(device) for video in training], held_out


def _state(config: TrainConfig, device: torch.device) -> TrainState:
    """Fresh, started from other weights, or as the last checkpoint of this run left it."""
    torch.manual_seed(config.seed)  # initial weights: the one draw that torch offers no generator for
    network = load_model(config.init).network.train() if config.init else build(config.network)
    assert isinstance(network, HeatmapNetwork)
    state = TrainState(network, config, device)
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state.restore(folder)
    return state


def _batches(config: TrainConfig, training: list[CachedVideo], state: TrainState, device: torch.device) -> Batches:
    context = ray.train.get_context()
    sampler = WindowSampler(
        [video.sampling for video in training],
        frames_in=config.network.frames_in,
        seed=config.seed,
        config=config.sampling,
    )
    return Batches(
        training,
        sampler,
        batch_size=config.batch_size,
        steps=range(state.step, config.steps),
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=device,
    )


def _checkpoint(state: TrainState, journal: Journal, rank: int) -> None:
    """Every rank reports; rank 0 brings the checkpoint, which is uploaded while training goes on."""
    if rank != 0:
        ray.train.report({"step": state.step})
        return
    folder = tempfile.mkdtemp(prefix="specktrack-checkpoint-")
    state.save(folder)
    ray.train.report(
        {"step": state.step, **journal.latest},
        checkpoint=Checkpoint.from_directory(folder),
        checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
    )

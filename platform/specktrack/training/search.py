"""Training a search network on Ray Train: the function that starts it, and the loop of one worker."""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray.train
import ray.train.collective
import ray.train.torch
import torch
from ray.train import Checkpoint
from torch import nn

from specktrack import storage
from specktrack.cluster import connected
from specktrack.datasets import load_dataset
from specktrack.models import build
from specktrack.models.checkpoint import load_model, model_path
from specktrack.models.global_search import GlobalSearch, SearchBatch
from specktrack.models.inference import fast_dtype
from specktrack.training.config import TrainReport
from specktrack.training.frame_cache import CachedVideo, load_videos
from specktrack.training.journal import MODEL, Journal
from specktrack.training.search_config import SearchTrainConfig
from specktrack.training.search_samples import SearchBatches, SearchSampler
from specktrack.training.state import TrainState
from specktrack.training.trainer import claim, fit


def train_search(config: SearchTrainConfig) -> TrainReport:
    """Train to the end, resuming the unfinished run in ``config.output`` if there is one.

    Raises ConfigError if the output holds a run of another configuration, with the keys that differ.
    """
    started = time.monotonic()
    for uri in config.data:
        load_dataset(uri)  # refuse here, in one sentence, what every worker would fail on
    if config.init:
        model_path(config.init)
    store = storage.open_store(config.output)
    claim(store, config, {})
    with connected(config.address) if config.workers else nullcontext():
        metrics = fit(search_loop, config, store.uri.removeprefix("file://"))
    return TrainReport(model=store.uri_of(MODEL), steps=metrics["step"], wall_s=round(time.monotonic() - started, 1))


def search_loop(values: dict[str, Any]) -> None:
    """Train as one worker of a TorchTrainer; ``values`` is a SearchTrainConfig as JSON."""
    config = SearchTrainConfig.model_validate(values)
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank = context.get_world_rank()
    videos = _videos(config)
    state = _state(config, device)
    network = ray.train.torch.prepare_model(_WithLoss(state.network))
    sampler = SearchSampler(
        videos, template_px=config.network.template_px, seed=config.seed, config=config.sampling
    )  # fmt: skip
    batches = SearchBatches(
        sampler, batch_size=config.batch_size, steps=range(state.step, config.steps), rank=rank,
        world_size=context.get_world_size(), device=device,
    )  # fmt: skip
    with Journal(config, enabled=rank == 0, first_step=state.step) as journal:
        for batch in batches:
            results = _learn(network, state, batch)
            last = state.step == config.steps
            if state.step % config.log_every == 0 or state.step == 1 or last:
                journal.write(state.step, "train", {**results, **state.figures()})
            if state.step % config.checkpoint_every == 0 or last:
                _checkpoint(state, journal, rank)
        if rank == 0:
            journal.save_model(state.average)


class _WithLoss(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss, so that gradients meet."""

    def __init__(self, network: GlobalSearch) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, templates_BCHW: torch.Tensor, template_boxes: torch.Tensor, frames_BCHW: torch.Tensor, boxes: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return self.network.loss(SearchBatch(templates_BCHW, template_boxes, frames_BCHW, boxes))


def _learn(network: nn.Module, state: TrainState[GlobalSearch], batch: SearchBatch) -> dict[str, torch.Tensor]:
    """Forward, backward, update; returns the metrics of the step."""
    device = batch.frames_BCHW.device
    dtype = fast_dtype(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        results = network(batch.templates_BCHW, batch.template_boxes, batch.frames_BCHW, batch.boxes)
    state.update(results["loss"])
    return {name: value.detach() for name, value in results.items()}


def _videos(config: SearchTrainConfig) -> list[CachedVideo]:
    """The first rank of a node decodes them, the others then find the result."""
    first_on_node = ray.train.get_context().get_local_rank() == 0
    if not first_on_node:
        ray.train.collective.barrier()
    videos = load_videos(config.data, input_wh=config.network.input_wh, folder=Path(config.cache).expanduser())
    if first_on_node:
        ray.train.collective.barrier()
    return videos


def _state(config: SearchTrainConfig, device: torch.device) -> TrainState[GlobalSearch]:
    """Fresh, started from other weights, or as the last checkpoint of this run left it."""
    torch.manual_seed(config.seed)  # initial weights: the one draw that torch offers no generator for
    network = load_model(config.init).network.train() if config.init else build(config.network)
    assert isinstance(network, GlobalSearch)
    state = TrainState(network, config, device)
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state.restore(folder)
    return state


def _checkpoint(state: TrainState[GlobalSearch], journal: Journal, rank: int) -> None:
    """Every rank reports; rank 0 brings the checkpoint."""
    if rank != 0:
        ray.train.report({"step": state.step})
        return
    with tempfile.TemporaryDirectory(prefix="specktrack-checkpoint-") as folder:
        state.save(folder)
        checkpoint = Checkpoint.from_directory(folder)
        ray.train.report({"step": state.step, **journal.latest}, checkpoint=checkpoint)

"""Training a search network, as one worker."""

# B batch, C channel, H W network px

from pathlib import Path

import ray.train
import ray.train.torch
import torch
from torch import nn

from specktrack.models.inference import fast_dtype
from specktrack.models.search.global_search import GlobalSearch, SearchBatch
from specktrack.training.checkpoints import restore
from specktrack.training.frame_cache import load_videos
from specktrack.training.loop import train_steps
from specktrack.training.search_config import SearchTrainConfig
from specktrack.training.search_samples import SearchBatches, SearchSampler
from specktrack.training.start import first_network, first_rank_first
from specktrack.training.state import TrainState


def train_search(config: SearchTrainConfig) -> None:
    """Read the videos, make the network, go on where the run stopped."""
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    with first_rank_first():
        videos = load_videos(config.data, input_wh=config.network.input_wh, folder=Path(config.cache).expanduser())
    network = first_network(config)
    assert isinstance(network, GlobalSearch)
    state = TrainState(network, config, device)
    restore(state)
    learner = ray.train.torch.prepare_model(_WithLoss(state.network))
    sampler = SearchSampler(videos, template_px=config.network.template_px, seed=config.seed, config=config.sampling)
    batches = SearchBatches(
        sampler, batch_size=config.batch_size, steps=range(state.step, config.steps), rank=context.get_world_rank(),
        world_size=context.get_world_size(), device=device,
    )  # fmt: skip
    train_steps(config, state, batches, lambda batch: _learn(learner, state, batch))


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

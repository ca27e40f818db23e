"""Training a network that repairs trajectories, as one worker."""

# B batch, T frames in window

from collections.abc import Sequence

import ray.train
import ray.train.torch
import torch
from torch import nn

from specktrack.models.repair.inpaint import InpaintNet
from specktrack.training.checkpoints import restore
from specktrack.training.loop import train_steps
from specktrack.training.repair_config import RepairTrainConfig
from specktrack.training.start import first_network
from specktrack.training.state import TrainState
from specktrack.training.trajectories import TrajectoryWindows, load_tracks

VALIDATED = 512
"""Windows that are measured on."""


def train_repair(config: RepairTrainConfig) -> None:
    """Read the labels, make the network, go on where the run stopped."""
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank, workers = context.get_world_rank(), context.get_world_size()
    windows = _windows(config, config.data)
    held_out = _windows(config, config.validation) if config.validation else None
    config = config.with_steps(windows=len(windows))
    network = first_network(config)
    assert isinstance(network, InpaintNet)
    state = TrainState(network, config, device, best_by=config.best_by)
    restore(state)
    learner = ray.train.torch.prepare_model(_WithLoss(state.network))

    def learn(step: int) -> dict[str, torch.Tensor]:
        numbers = range(step * config.batch_size + rank, (step + 1) * config.batch_size, workers)
        results = learner(*windows.batch(numbers, device))
        state.update(results["loss"])
        return {name: value.detach() for name, value in results.items()}

    train_steps(
        config, state, range(state.step, config.steps), learn,
        measure=(lambda: measure(state.average, held_out, device)) if held_out else None,
        measure_every=config.validate_every,
    )  # fmt: skip


def _windows(config: RepairTrainConfig, uris: Sequence[str]) -> TrajectoryWindows:
    return TrajectoryWindows(
        load_tracks(uris, config.rows), frames_in=config.network.frames_in, seed=config.seed, hiding=config.hiding
    )


class _WithLoss(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss, so that gradients meet."""

    def __init__(self, network: InpaintNet) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, seen_BT2: torch.Tensor, truth_BT2: torch.Tensor, hidden_BT: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return self.network.loss(seen_BT2, truth_BT2, hidden_BT)


@torch.inference_mode()
def measure(network: InpaintNet, windows: TrajectoryWindows, device: torch.device) -> dict[str, float]:
    """Loss, mean error and accuracy at hidden frames of the first held-out windows."""
    results = network.loss(*windows.batch(range(min(VALIDATED, len(windows))), device))
    return {name: value.item() for name, value in results.items()}

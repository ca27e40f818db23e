"""Training a network that repairs trajectories."""

# B batch, T frames in window

from collections.abc import Sequence

import torch

from specktrack.models.repair.inpaint import InpaintNet
from specktrack.training.course import Course, Tensors
from specktrack.training.repair.config import RepairTrainConfig
from specktrack.training.repair.trajectories import TrajectoryWindows, Windows, load_tracks
from specktrack.training.start import first_network

VALIDATED = 512
"""Windows that are measured on."""


class RepairCourse(Course[InpaintNet, Windows]):
    """Windows of labels or of a tracker's rows, of which the network finds the hidden frames again."""

    def __init__(self, config: RepairTrainConfig, device: torch.device) -> None:
        self.device = device
        self._windows = _windows(config, config.data)
        self._held_out = _windows(config, config.validation) if config.validation else None
        self.config: RepairTrainConfig = config.with_steps(windows=len(self._windows))

    def network(self) -> InpaintNet:
        """See Course."""
        return first_network(self.config, InpaintNet)

    def read(self, numbers: range) -> Tensors:
        """See Course."""
        return self._windows.batch(numbers)._asdict()

    def batch(self, numbers: range, read: Tensors) -> Windows:
        """See Course."""
        return Windows(**read)

    def loss(self, network: InpaintNet, batch: Windows) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Course."""
        results = network.loss(*(tensor.to(self.device) for tensor in batch))
        return results["loss"], results

    @torch.inference_mode()
    def measure(self, network: InpaintNet) -> dict[str, float]:
        """Loss, mean error and accuracy at hidden frames of the first held-out windows."""
        if self._held_out is None:
            return {}
        _, results = self.loss(network, self._held_out.batch(range(min(VALIDATED, len(self._held_out)))))
        return {name: value.item() for name, value in results.items()}


def _windows(config: RepairTrainConfig, uris: Sequence[str]) -> TrajectoryWindows:
    return TrajectoryWindows(
        load_tracks(uris, config.rows), frames_in=config.network.frames_in, seed=config.seed, hiding=config.hiding
    )

"""The part of a training run that depends on the family of networks; the worker does the rest, once for all."""

from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import torch

from specktrack import lazy
from specktrack.models.inference import AnyNetwork
from specktrack.training.config import TrainConfig
from specktrack.training.footage import Reading
from specktrack.training.state import TrainState

Batch = TypeVar("Batch")
Tensors = dict[str, torch.Tensor]
"""By name; what crosses from whoever reads data to whoever trains on them."""


class Course(Protocol[AnyNetwork, Batch]):
    """Data, network, loss and measure of a run; made of its configuration and a device, on which it is trained.

    It knows neither steps nor ranks: the worker says by their numbers which samples it wants.
    """

    config: TrainConfig
    """With all that follows from the data, such as the steps of so many epochs."""
    device: torch.device
    skips_weights: ClassVar[bool] = False
    """Whether a step may leave out some of the weights: workers then look for them when they exchange gradients."""

    def network(self) -> AnyNetwork:
        """The network with its first weights."""
        ...

    def state(self, network: AnyNetwork) -> TrainState[AnyNetwork]:
        """The network with all that is trained beside it, and optimisers."""
        return TrainState(network, self.config, self.device)

    def read(self, numbers: range) -> Tensors:
        """Read the data of these samples of the run: a function of their numbers alone, on any machine."""
        ...

    def batch(self, numbers: range, read: Tensors) -> Batch:
        """The samples as a batch on the device, of what was read for them here or elsewhere."""
        ...

    def samples(self, numbers: range) -> Batch:
        """Those of the run's samples, read here."""
        return self.batch(numbers, self.read(numbers))

    def loss(self, network: AnyNetwork, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss, and figures for the journal; the worker calls it under the autocast of ``precision``."""
        ...

    def measure(self, network: AnyNetwork) -> dict[str, float]:
        """Figures on held-out data, of which ``keep`` names one; none if nothing is held out."""
        ...


def reading_of(config: TrainConfig) -> Reading:
    """How a course's videos are read."""
    return Reading(Path(config.cache).expanduser(), streamed=config.stream == "always", most_bytes=config.cache_bytes)


def course_of(config: TrainConfig, device: torch.device) -> Course:
    """The course of the configuration's family; it reads the data."""
    course: Course = lazy.load(config.course)(config, device)
    return course

"""Training a kind network."""

import torch

from specktrack.errors import ConfigError
from specktrack.models.kinds.kindnet import KindNet
from specktrack.training.course import Course, Tensors
from specktrack.training.kinds.config import KindTrainConfig
from specktrack.training.kinds.crops import load_crops
from specktrack.training.kinds.samples import KindBatch, KindSampler
from specktrack.training.start import first_network

VALIDATED = 512
"""Samples in a validation."""


class KindCourse(Course[KindNet, KindBatch]):
    """Crops of labelled objects and their kinds."""

    def __init__(self, config: KindTrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._sampler = _sampler(config, config.data)
        if absent := set(range(len(config.network.kinds))) - self._sampler.kinds:
            words = ", ".join(config.network.kinds[kind] for kind in sorted(absent))
            remedy = "import labels with --kind, or name other network.kinds"
            raise ConfigError("no label is of this kind", words, ", ".join(config.data), remedy)
        self._held_out = _sampler(config, config.validation) if config.validation else None

    def network(self) -> KindNet:
        """See Course."""
        return first_network(self.config, KindNet)

    def read(self, numbers: range) -> Tensors:
        """See Course."""
        return self._sampler.batch(numbers)._asdict()

    def batch(self, numbers: range, read: Tensors) -> KindBatch:
        """See Course."""
        return KindBatch(**{name: tensor.to(self.device) for name, tensor in read.items()})

    def loss(self, network: KindNet, batch: KindBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Course."""
        results = network.loss(*batch)
        return results["loss"], results

    @torch.inference_mode()
    def measure(self, network: KindNet) -> dict[str, float]:
        """Loss and accuracy of held-out samples, drawn like those that are learned from."""
        if self._held_out is None:
            return {}
        numbers = range(VALIDATED)
        _, results = self.loss(network, self.batch(numbers, self._held_out.batch(numbers)._asdict()))
        return {name: value.item() for name, value in results.items()}


def _sampler(config: KindTrainConfig, uris: tuple[str, ...]) -> KindSampler:
    network = config.network
    return KindSampler(
        load_crops(uris, network), side=network.input_wh[0], run=network.frames_in, config=config.sampling,
        seed=config.seed,
    )  # fmt: skip

"""Training a search network."""

# B batch, C channel, H W network px

import numpy as np
import torch

from specktrack.errors import ConfigError
from specktrack.models.search.global_search import GlobalSearch, SearchBatch
from specktrack.training.course import Course, Tensors, reading_of
from specktrack.training.frame_cache import load_videos
from specktrack.training.search.config import SearchTrainConfig
from specktrack.training.search.samples import SearchSampler, as_batch, boxes_px
from specktrack.training.start import first_network
from specktrack.training.validation import frames_of, validate_boxes


class SearchCourse(Course[GlobalSearch, SearchBatch]):
    """Templates, and frames in which the network is to find what they show."""

    def __init__(self, config: SearchTrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        reading, network = reading_of(config), config.network
        videos = load_videos(config.data, input_wh=network.input_wh, reading=reading)
        held_out = load_videos(config.validation, input_wh=network.input_wh, reading=reading)
        self._held_out = [video for video in held_out if np.isfinite(boxes_px(video)).all(axis=1).any()]
        if config.validation and not self._held_out:
            raise ConfigError(
                "no validation video has boxes", ", ".join(config.validation), "validation",
                "give labels with w and h",
            )  # fmt: skip
        self._sampler = SearchSampler(videos, template_px=network.template_px, seed=config.seed, config=config.sampling)

    def network(self) -> GlobalSearch:
        """See Course."""
        return first_network(self.config, GlobalSearch)

    def read(self, numbers: range) -> Tensors:
        """See Course."""
        return self._sampler.read(numbers)

    def batch(self, numbers: range, read: Tensors) -> SearchBatch:
        """See Course."""
        return as_batch(read, self.device)

    def loss(self, network: GlobalSearch, batch: SearchBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Course."""
        results = network.loss(batch)
        return results["loss"], results

    def measure(self, network: GlobalSearch) -> dict[str, float]:
        """How well it follows the held-out videos' objects from their first boxes."""
        sequences = [(boxes_px(video), frames_of(video)) for video in self._held_out]
        return validate_boxes(network, sequences, self.device) if sequences else {}

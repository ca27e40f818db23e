"""The best weights in validation so far, which TrackNetV3's program keeps instead of the last."""

import copy
from typing import Generic

import torch

from specktrack.models.inference import AnyNetwork


class Best(Generic[AnyNetwork]):
    """A copy of the best weights, and the figures that were measured with them."""

    def __init__(self, network: AnyNetwork, *, by: str) -> None:
        """``by`` names the figure that decides; higher is better."""
        self.network = copy.deepcopy(network)
        self.figures: dict[str, float] = {}
        """Of the weights kept; nothing before the first measurement."""
        self._by = by

    @torch.no_grad()
    def offer(self, network: AnyNetwork, figures: dict[str, float]) -> None:
        """Keep the weights of ``network`` unless earlier ones were better; of equals the later, as published."""
        if not self.figures or figures[self._by] >= self.figures[self._by]:
            self.network.load_state_dict(network.state_dict())
            self.figures = dict(figures)

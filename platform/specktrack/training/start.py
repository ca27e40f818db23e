"""The start of every run on a worker: data made once per node, and a network with its initial weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ray.train
import ray.train.collective
import torch
from torch import nn

from specktrack import telemetry
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import load_weights
from specktrack.models.entry import NetworkConfig
from specktrack.models.inference import AnyNetwork
from specktrack.models.network import Network
from specktrack.models.zoo import build
from specktrack.training.config import TrainConfig

log = telemetry.get_logger()

KERAS_UNIFORM = 0.05
"""Bound of Keras' initialiser ``uniform``."""

Cut = Callable[[Mapping[str, torch.Tensor], NetworkConfig, NetworkConfig], Mapping[str, torch.Tensor]]
"""From weights of one network to those of another one."""


@contextmanager
def first_rank_first() -> Iterator[None]:
    """The first rank of a node goes through the block; then the others, which find what it made."""
    first = ray.train.get_context().get_local_rank() == 0
    if not first:
        ray.train.collective.barrier()
    yield
    if first:
        ray.train.collective.barrier()


def first_network(config: TrainConfig, kind: type[AnyNetwork], *, cut: Cut | None = None) -> AnyNetwork:
    """The network to train, fresh or with the weights of ``init``, of which ``cut`` may take a part."""
    torch.manual_seed(config.seed)  # initial weights: the one draw that torch offers no generator for
    network = build(config.network).train()
    assert isinstance(network, kind)
    if config.fresh_weights == "uniform":
        draw_uniform(network)
    if config.init:
        card, weights = load_weights(config.init)
        start_from(network, cut(weights, card.network, config.network) if cut else weights, name=card.name)
    return network


@torch.no_grad()
def draw_uniform(network: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers within 0.05, and set their biases to 0."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.uniform_(layer.weight, -KERAS_UNIFORM, KERAS_UNIFORM)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def start_from(network: Network, weights: Mapping[str, torch.Tensor], *, name: str) -> None:
    """Take over all ``weights`` of the model ``name``; what ``network`` has beyond them stays fresh.

    So a network with an addition (TrackNetV4's motion prompt) starts from its base, and a tracker from a backbone.
    ConfigError if weights do not fit.
    """
    place = f"init {name} for {network.config.name}"
    try:
        fit = network.load_state_dict(dict(weights), strict=False)
    except RuntimeError as error:
        first = str(error).partition("\n\t")[2].partition("\n")[0]
        raise ConfigError("weights with the wrong shape", first, place) from None
    if fit.unexpected_keys:
        raise ConfigError("weights that do not belong to the network", fit.unexpected_keys[0], place)
    if fit.missing_keys:
        log.info(
            "random weights in addition to those of init", names=fit.missing_keys[:5], tensors=len(fit.missing_keys)
        )

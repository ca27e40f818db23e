"""The interface of networks of all families to the code that loads, saves and builds them."""

from torch import nn

from specktrack.models.entry import NetworkConfig


class Network(nn.Module):
    """A module that knows its zoo entry."""

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

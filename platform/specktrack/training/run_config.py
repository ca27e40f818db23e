"""What every training run is told, whatever the family of its network."""

from typing import Any

from pydantic import Field, field_validator

from specktrack.config import VerbConfig
from specktrack.errors import ConfigError
from specktrack.models import network_config


class RunConfig(VerbConfig):
    """Where a run's data, weights and checkpoints are, and on what it runs."""

    data: tuple[str, ...] = Field(min_length=1)
    """Datasets to train on."""
    output: str
    """Folder or s3:// prefix for the model, checkpoints and logs; an unfinished run in it is resumed."""
    init: str = ""
    """Model whose weights to start from: a name or a path."""
    seed: int = 0
    """Decides initial weights, order, crops and everything else that is drawn."""

    workers: int = Field(default=1, ge=0)
    """Ray Train workers: gloo on CPUs, nccl on GPUs. 0 trains in this process, without a cluster or checkpoints."""
    gpu: bool | None = None
    """One GPU per worker; the default uses GPUs where the cluster has them."""
    address: str = "auto"
    """Ray cluster: auto, local or an address."""
    cache: str = "~/.cache/specktrack/frames"
    """Folder on each node for decoded training video."""
    log_every: int = Field(default=20, ge=1)
    """Steps between lines of metrics."""
    checkpoint_every: int = Field(default=250, ge=1)
    """Steps between checkpoints; at most that many are repeated after a crash."""
    max_failures: int = Field(default=3, ge=0)
    """Lost workers that a run goes on after; more where machines are taken away at any time."""

    name: str = ""
    """Name of the resulting weights; the network's by default."""
    description: str = ""
    """One sentence for the model card."""
    licence: str = ""
    """Licence of the weights, for the model card."""

    @field_validator("network", mode="before", check_fields=False)
    @classmethod
    def _from_zoo(cls, value: Any) -> Any:
        """Subclasses say which family ``network`` is of; here it may be a name or a mapping."""
        if isinstance(value, (str, dict)):
            try:
                return network_config(value)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return value

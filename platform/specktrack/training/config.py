"""Settings shared by every training run, whatever the family of its network, and its report.

One verb, ``train``: the family of the recipe's network decides which class validates the other settings. A recipe may
say ``needs: {init: a trained TrackNetV2}``: then it is refused without that key, in those words.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from specktrack import lazy
from specktrack.config import Config, VerbConfig
from specktrack.errors import ConfigError
from specktrack.models.entry import Family, NetworkConfig
from specktrack.models.zoo import DEFAULT_MODEL, family_of, network_config
from specktrack.training.places import ModelPlace, Place

RECIPES = Path(__file__).parent / "recipes"

_KINDS: Mapping[Family, str] = {
    "windowed": "specktrack.training.windowed.config:WindowedTrainConfig",
    "repair": "specktrack.training.repair.config:RepairTrainConfig",
    "template": "specktrack.training.template.config:TemplateTrainConfig",
    "search": "specktrack.training.search.config:SearchTrainConfig",
    "kind": "specktrack.training.kinds.config:KindTrainConfig",
}


class TrainConfig(VerbConfig):
    """A training run: its data, weights and checkpoints, on what it runs, and how steps become smaller."""

    verb: ClassVar[str] = "train"
    course: ClassVar[str]
    """``module:class`` of the family's Course."""
    sees_pictures: ClassVar[bool] = True
    """Whether it learns from more than labels and rows."""
    measured_on: ClassVar[str] = "validation"
    """Settings that give a run something to measure on."""
    measured_by: ClassVar[tuple[str, ...]]
    """Figures of a measurement by which the best weights can be kept."""

    data: tuple[Place, ...] = Field(min_length=1)
    """Datasets to train on. Template and search networks need labels with boxes."""
    output: Place
    """Folder or s3:// prefix for the model, checkpoints and logs. If it has an unfinished run, that run is resumed."""
    network: SerializeAsAny[NetworkConfig]
    """Network from the zoo: a name, or a mapping of its name and fields."""
    init: ModelPlace = ""
    """Model to take the initial weights from: a name or a path."""
    validation: tuple[Place, ...] = ()
    """Datasets to validate on during training; they are not trained on."""
    fresh_weights: Literal["own", "uniform"] = "own"
    """Distribution of the initial weights that no model gives: the network's own, or uniform within 0.05 with biases of
    0, as in the Keras programs of TrackNetV2 and V4."""
    seed: int = 0
    """Seed for initial weights, order, crops and all other random choices."""

    steps: int = Field(default=3000, ge=1)
    """Optimiser steps of the whole run."""
    batch_size: int = Field(default=8, ge=1)
    """Samples per step, over all workers."""
    shards: int = Field(default=0, ge=0)
    """Equal parts of a batch, each with its own batch statistics; one per worker if 0. With the same number of
    shards, a run continues in the same way on a different number of workers."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the forward pass. ``auto`` uses bf16 where it is faster. fp32 gives the same losses after a restart
    with a different number of workers."""
    keep: Literal["last", "accuracy", "f1", "success_auc", "pointing"] = "last"
    """Weights to keep as the model: the last, or those with the highest validation metric: accuracy or f1 for windowed
    networks (TrackNetV3 was published with accuracy), accuracy for repair networks, success_auc or pointing for
    template and search networks."""
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """Learning rate schedule: half a cosine down to 1 %, a drop at each milestone, or constant."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Fractions of the run after which the learning rate drops, for ``schedule=steps``."""
    fall: float = Field(default=0.1, gt=0, lt=1)
    """Factor applied to the learning rate at each milestone."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up to the peak learning rate."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Applied only to weights with more than one dimension."""
    clip_norm: float = Field(default=5.0, ge=0)
    """Maximum Euclidean norm of the gradient; 0 does not clip."""
    average: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the moving average of the weights; the average is what is saved and validated."""
    norm_momentum: float | None = Field(default=None, gt=0, le=1)
    """Momentum of batch norm's running statistics (weight of the current step); by default the network's own. A run of
    a few hundred steps needs 0.1 if the network's own is 0.01, or the statistics lag behind the weights."""

    workers: int = Field(default=1, ge=0)
    """Ray Train workers: gloo on CPUs, nccl on GPUs. 0 trains in this process, without a cluster or checkpoints."""
    min_workers: int = Field(default=0, ge=0)
    """Minimum number of workers: the run continues with as few as this when machines are taken away, and grows up to
    ``workers`` as others join. Every number in between must divide ``shards``. 0 waits for all of them."""
    gpu: bool | None = None
    """One GPU per worker; by default if the cluster has GPUs."""
    address: str = "auto"
    """Ray cluster: auto, local or an address."""
    cache: Place = "~/.cache/specktrack/frames"
    """Folder on each node for decoded training video."""
    cache_gb: float = Field(default=50.0, gt=0)
    """Decoded video that a node keeps, in GB. Larger prepared data is streamed, and this much of its packs is
    cached."""
    stream: Literal["auto", "always", "never"] = "auto"
    """Stream prepared data with Ray Data alongside the workers, instead of reading all of it on every node. ``auto``
    streams data larger than ``cache_gb``. The samples are the same."""
    log_every: int = Field(default=20, ge=1)
    """Steps between logged metrics."""
    validate_every: int = Field(default=500, ge=1)
    """Steps between validations."""
    checkpoint_every: int = Field(default=250, ge=1)
    """Steps between checkpoints; at most this many are repeated after a crash."""
    single_writer: bool = False
    """Promise that nobody else trains into this output: for S3 servers without conditional writes and file systems
    without hard links."""
    max_failures: int = Field(default=3, ge=0)
    """Number of lost workers after which a run still continues; set it higher for spot machines."""

    sweep: Place = ""
    """YAML file of settings to vary: every combination is a run below ``output``, and poor ones stop early."""
    mlflow: str | None = None
    """MLflow experiment (on the server in MLFLOW_TRACKING_URI) that also records parameters, metrics and the model;
    needs the extra 'mlflow'."""
    register_as: str | None = None
    """Name of the model in the server's registry, NAME or NAME@ALIAS; use it with ``--model mlflow:NAME@ALIAS``."""

    name: str = ""
    """Name of the resulting weights; the network's by default."""
    description: str = ""
    """One sentence for the model card."""
    licence: str = ""
    """Licence of the weights, for the model card."""

    @model_validator(mode="after")
    def _registered_where_tracked(self) -> Self:
        if self.register_as is not None and self.mlflow is None:
            raise ValueError("register_as needs mlflow: name the experiment")
        return self

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that are read."""
        return (*self.data, *self.validation)

    @property
    def measures(self) -> bool:
        """Whether there is something to measure on."""
        return bool(self.validation)

    @property
    def reads_ahead(self) -> bool:
        """Whether whole videos are looked through before training begins, which streams are not made for."""
        return False

    @property
    def best_by(self) -> str:
        """The figure of the validation whose best weights become the model; empty if the last do."""
        return "" if self.keep == "last" else self.keep

    @property
    def cache_bytes(self) -> int:
        """``cache_gb`` in bytes."""
        return round(self.cache_gb * 1e9)

    @property
    def parts(self) -> int:
        """Parts of a batch, see ``shards``."""
        return self.shards or self.workers or 1

    @property
    def models(self) -> tuple[str, ...]:
        """Names and paths of all models whose weights are read."""
        return (self.init,) if self.init else ()

    @property
    def decisive(self) -> dict[str, Any]:
        """Settings that change the weights, beside the fields that always do."""
        return {"shards": self.parts} | ({"validate_every": self.validate_every} if self.best_by else {})

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, then the schedule."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "steps":
            return float(self.fall ** sum(step >= round(share * self.steps) for share in self.milestones))
        if self.schedule == "constant":
            return 1.0
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

    @classmethod
    def classes(cls) -> Mapping[str, type[Self]]:
        """The class of every family; a family's own class has no others."""
        return {family: lazy.load(place) for family, place in _KINDS.items()} if cls is TrainConfig else {}

    @classmethod
    def kind_of(cls, settings: Mapping[str, Any]) -> type[Self]:
        """The class of the network's family; that of windowed networks, which then names the zoo, if it is unknown."""
        if cls is not TrainConfig:
            return cls
        return lazy.load(_KINDS[family_of(settings.get("network", DEFAULT_MODEL)) or "windowed"])

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """The configuration whose JSON this is."""
        return cls.kind_of(values).model_validate(values)

    @model_validator(mode="before")
    @classmethod
    def _needs(cls, values: Any) -> Any:
        """A recipe's ``needs``: the keys that only whoever runs it can fill, each with what to give."""
        if not isinstance(values, dict) or "needs" not in values:
            return values
        needs = values["needs"]
        if not isinstance(needs, dict) or not all(isinstance(what, str) for what in needs.values()):
            raise ValueError("needs must be a mapping from a key to what to give there")
        missing = [f"{key} ({what})" for key, what in needs.items() if not _at(values, key)]
        if missing:
            raise ValueError(f"this recipe needs {' and '.join(missing)}")
        return {key: value for key, value in values.items() if key != "needs"}

    @field_validator("network", mode="before")
    @classmethod
    def _from_zoo(cls, value: Any) -> Any:
        """A name or a mapping as the configuration of a network."""
        if isinstance(value, (str, dict)):
            try:
                return network_config(value)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.batch_size % (self.workers or 1):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of workers {self.workers}")
        if self.parts % (self.workers or 1) or self.batch_size % self.parts:
            raise ValueError(f"shards {self.shards} must be a multiple of workers and divide batch_size")
        if self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is more than workers {self.workers}")
        if self.min_workers and (uneven := [n for n in range(self.min_workers, self.workers) if self.parts % n]):
            raise ValueError(f"shards {self.parts} cannot be divided evenly among {uneven[0]} workers")
        if self.best_by and not self.measures:
            raise ValueError(f"keep={self.keep} chooses by validation: give {self.measured_on}")
        if self.best_by and self.best_by not in self.measured_by:
            raise ValueError(f"keep={self.keep} is not measured for such networks: use {' or '.join(self.measured_by)}")
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("schedule=steps and milestones must be given together")
        return self


class OneRateConfig(TrainConfig):
    """All weights learn at one rate."""

    optimiser: Literal["adamw", "adam", "adadelta"] = "adamw"
    """The older papers used Adadelta, and Adam without decoupled weight decay."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""


class EpochsConfig(OneRateConfig):
    """A run that passes over the windows of its data."""

    epochs: float = Field(default=0, ge=0)
    """Passes over all windows; overrides ``steps``."""
    validate_every: int = Field(default=500, ge=0)
    """Steps between validations; 0 validates after every epoch, for networks that have epochs."""

    def with_steps(self, *, windows: int) -> Self:
        """With the ``steps`` that ``epochs`` over so many windows are, and those between measurements."""
        epoch = windows / self.batch_size
        steps = max(1, round(self.epochs * epoch)) if self.epochs else self.steps
        every = self.validate_every or max(1, round(epoch))
        return self.model_copy(update={"steps": steps, "validate_every": every})


class TrainReport(Config):
    """The result of a training run."""

    model: str
    """URI of the weights with their card."""
    steps: int
    wall_s: float
    training: dict[str, float] = {}
    """The last step's own figures."""
    validation: dict[str, float] = {}
    exit_code: int = 0


def recipe_path(name: str) -> Path:
    """The YAML file of a shipped recipe; ConfigError names the shipped ones."""
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise ConfigError("no such recipe", name, remedy=f"available: {shipped}")
    return path


def _at(values: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted key; None if there is none."""
    value: Any = values
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value

"""What a training run is told, and what it reports."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from specktrack.augment import AugmentConfig
from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.models.repair_entries import InpaintNetConfig
from specktrack.models.windowed_entries import SpeckNetConfig, WindowedConfig
from specktrack.sampling import SamplingConfig
from specktrack.training.run_config import RunConfig

RECIPES = Path(__file__).parent / "recipes"


class DistillConfig(Config):
    """What is learned from a teacher beside the labels, and how much each term weighs."""

    teacher: str = Field(min_length=1)
    """Model that teaches: a name or a path. It stays as it is."""
    heatmap: float = Field(default=1.0, ge=0)
    """Weight of the teacher's heatmap as a second label."""
    position: float = Field(default=0.0, ge=0)
    """Weight of the distance to the teacher's position, network px."""
    feature: float = Field(default=0.0, ge=0)
    """Weight of the distance between features; needs ``stages``."""
    stages: tuple[tuple[str, str], ...] = ()
    """Pairs of modules, the student's and the teacher's, whose outputs are compared."""

    @model_validator(mode="after")
    def _terms(self) -> Self:
        if bool(self.feature) != bool(self.stages):
            raise ValueError("feature and stages go together")
        if not (self.heatmap or self.position or self.feature):
            raise ValueError("all terms weigh 0: give heatmap, position or feature a weight")
        return self


class MiningConfig(Config):
    """Which frames are hard, and how their labels are softened (WASB's mining of hard samples)."""

    model: str = Field(min_length=1)
    """Model that finds them: frames in which it sees the object more than 4 source px from its label. WASB looks once,
    after epoch 20 of 30: the model of a first run, with which this run also starts (``init``)."""
    smallest: float = Field(default=0.7, gt=0.5, lt=1)
    """Value of a label at its radius, c_min: 0.7 in the paper, 0.6 in the public configuration."""


class HidingConfig(Config):
    """What is hidden of a trajectory from a network that learns to repair it."""

    frames: float = Field(default=0.3, ge=0, le=1)
    """Share of the frames hidden one by one; TrackNetV3 found 0.3 the best of 0.2, 0.3 and 0.4."""
    runs: float = Field(default=0.0, ge=0, le=1)
    """Share of windows in which one run of frames is hidden instead: gaps as detectors leave them."""
    mirror: float = Field(default=0.0, ge=0, le=1)
    """Share of windows mirrored, and of windows reversed in time."""


class TrainConfig(RunConfig):
    """Everything that decides the trained weights, and where they go."""

    verb: ClassVar[str] = "train"

    validation: tuple[str, ...] = ()
    """Datasets to measure on while training; never trained on."""
    hold_out_every: int = Field(default=0, ge=0)
    """Each n-th training video is kept for validation instead; 0 keeps none."""
    network: SerializeAsAny[WindowedConfig | InpaintNetConfig] = SpeckNetConfig()
    """Network of the zoo: its name, or a mapping of name and fields."""
    distill: DistillConfig | None = None
    """A teacher to learn from beside the labels."""
    mining: MiningConfig | None = None
    """Softer labels for frames that a model of an earlier run gets wrong."""

    steps: int = Field(default=3000, ge=1)
    """Optimiser steps of the whole run."""
    epochs: float = Field(default=0, ge=0)
    """Passes over all windows; where given, ``steps`` follows from it."""
    batch_size: int = Field(default=8, ge=1)
    """Samples per step over all workers."""
    shards: int = Field(default=0, ge=0)
    """Equal parts of a batch, each with its own batch statistics; one per worker if 0. With the same number a run goes
    on alike on another number of workers."""
    optimiser: Literal["adamw", "adam", "adadelta"] = "adamw"
    """Adadelta and Adam without decoupled weight decay are what the older papers used."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak of the schedule, after a linear warm-up."""
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """Half a cosine down to 1 %, a tenth at each milestone, or no change."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Shares of the run after which the learning rate falls to a tenth; for ``schedule=steps``."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps until the peak."""
    weight_decay: float = Field(default=0.01, ge=0)
    """On convolution weights only."""
    clip_norm: float = Field(default=5.0, ge=0)
    """Longest gradient, by its Euclidean norm; 0 leaves gradients as they are."""
    average: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the moving average of the weights; the average is what is saved and measured."""
    sampling: SamplingConfig = SamplingConfig()
    """Where crops are taken and how they vary."""
    augment: AugmentConfig = AugmentConfig()
    """How strongly light, colour and noise vary, and what is mixed."""
    hiding: HidingConfig = HidingConfig()
    """What networks that repair trajectories are to find again."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; ``auto`` takes bf16 where it pays. fp32 gives the same losses after a restart on
    another number of workers."""
    compile: bool = False
    """Compile the network; off by default because it is slower on CPUs (docs/log.md)."""

    validate_every: int = Field(default=500, ge=1)
    """Steps between measurements on the validation videos."""

    @property
    def parts(self) -> int:
        """Parts of a batch, see ``shards``."""
        return self.shards or self.workers or 1

    def with_steps(self, *, windows: int) -> Self:
        """With the ``steps`` that ``epochs`` over so many windows are."""
        if not self.epochs:
            return self
        return self.model_copy(update={"steps": max(1, round(self.epochs * windows / self.batch_size))})

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        workers = self.workers or 1
        if self.batch_size % workers:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of workers {self.workers}")
        if self.parts % workers or self.batch_size % self.parts:
            raise ValueError(f"shards {self.shards} must be a multiple of workers and divide batch_size")
        disks = isinstance(self.network, WindowedConfig) and self.network.target.kind == "disk"
        if self.mining and (self.augment.mix != "none" or not disks):
            raise ValueError(
                "mining softens disks of unmixed windows: it takes augment.mix=none and a target of kind disk"
            )
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("schedule=steps and milestones go together")
        crop_wh = self.sampling.crop_wh
        if any(side % 16 for side in crop_wh) and crop_wh != self.network.input_wh:
            raise ValueError(f"sampling.crop_wh {crop_wh} must be multiples of 16, or the network's input_wh")
        return self


class TrainReport(Config):
    """What came out of a run."""

    model: str
    """URI of the weights with their card."""
    steps: int
    wall_s: float
    validation: dict[str, float] = {}
    exit_code: int = 0


def recipe_path(name: str) -> Path:
    """The YAML file of a shipped recipe; ConfigError names the shipped ones."""
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise ConfigError("no such recipe", name, remedy=f"shipped are: {shipped}")
    return path

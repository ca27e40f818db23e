"""Training a template tracker, with a teacher or without."""

from dataclasses import dataclass

import torch
from torch import nn

from specktrack.errors import ConfigError
from specktrack.models.checkpoint import load_model
from specktrack.models.template.dimp import Dimp, Pairs, Proposals
from specktrack.models.template.entries import TemplateConfig
from specktrack.training.course import Course, Tensors, reading_of
from specktrack.training.precision import dtype_of
from specktrack.training.start import first_network
from specktrack.training.state import TrainState
from specktrack.training.template.config import MkdNetDistillConfig, TemplateTrainConfig
from specktrack.training.template.mkdnet import Discriminator, degrade, distillation, own_loss, teach
from specktrack.training.template.pairs import PairBatches, PairSampler
from specktrack.training.template.tracks import frames_of, load_tracks
from specktrack.training.validation import validate_boxes


@dataclass(frozen=True)
class TemplateBatch:
    """One shard of one step."""

    pairs: Pairs
    seed: int
    """For what is still drawn at random."""


class TemplateCourse(Course[Dimp, TemplateBatch]):
    """Templates and search regions of labelled sequences; beside the labels, what MKDNet's teacher says."""

    skips_weights = True  # the backbone's last stage, which comes with ImageNet's weights

    def __init__(self, config: TemplateTrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        reading = reading_of(config)
        tracks = load_tracks(config.data, reading=reading)
        self._held_out = load_tracks(config.validation, reading=reading)
        sampler = PairSampler(tracks, seed=config.seed, config=config.pairs)
        self._batches = PairBatches(
            tracks, sampler, config.network, most_skipped=config.steps * config.batch_size // 100
        )
        self._teacher: Dimp | None = None
        self._discriminator: Discriminator | None = None
        if config.distill is not None:
            teacher = load_teacher(config.distill.teacher, config.network)
            self._teacher = teacher.to(device).eval().requires_grad_(requires_grad=False)

    def network(self) -> Dimp:
        """See Course."""
        return first_network(self.config, Dimp)

    def state(self, network: Dimp) -> TrainState[Dimp]:
        """See Course: rates by layer and, where MKDNet's features are taught, a discriminator with its own."""
        config, recipe = self.config, self.config.distill
        state = TrainState(network, config, self.device, optimizer=torch.optim.AdamW(_groups(network, config)))
        if recipe is not None and recipe.features:
            discriminator = Discriminator(config.network.box_head.prediction, preset=recipe.preset).to(self.device)
            rate = recipe.discriminator_learning_rate
            state.train_beside("discriminator", discriminator, torch.optim.Adam(discriminator.parameters(), rate))
            self._discriminator = discriminator
        return state

    def read(self, numbers: range) -> Tensors:
        """See Course."""
        return vars(self._batches.batch(numbers))

    def batch(self, numbers: range, read: Tensors) -> TemplateBatch:
        """See Course."""
        step, shard = divmod(numbers.start, self.config.batch_size)
        return TemplateBatch(Pairs(**read), self.config.seed * 1_000_003 + step * 1009 + shard)

    def loss(self, network: Dimp, batch: TemplateBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Course. Only backbones compute in the run's precision: target models learn by second derivatives."""
        config, pairs = self.config, batch.pairs.to(self.device)
        generator = torch.Generator().manual_seed(batch.seed)
        proposals = Proposals.draw(pairs.search_boxes_nS4, config.network.box_head.proposals, generator)
        with torch.autocast(self.device.type, enabled=False):
            if config.distill is not None and self._teacher is not None:
                return self._distilled(network, self._teacher, pairs, proposals, config.distill, generator)
            outputs = network.outputs(pairs, proposals, dtype=dtype_of(config, self.device))
            results = network.losses(outputs, pairs, proposals)
            return results["loss"], results

    def _distilled(
        self, network: Dimp, teacher: Dimp, pairs: Pairs, proposals: Proposals, recipe: MkdNetDistillConfig,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:  # fmt: skip
        """The student's loss on degraded pictures and what the teacher adds; the discriminator's own loss with it."""
        dtype = dtype_of(self.config, self.device)
        tiny = degrade(pairs, tiny_px=recipe.tiny_px, swapped=recipe.preset == "released", generator=generator)
        taught = teach(teacher, network, pairs, proposals, recipe, dtype=dtype)
        outputs = network.outputs(tiny, proposals, dtype=dtype)
        results = network.losses(outputs, pairs, proposals)
        of_teacher = teacher.losses(taught, pairs, proposals)
        results["loss"] = own_loss(results, self.config.network, recipe)
        extra = distillation(results, of_teacher, outputs, taught, self._discriminator, recipe)
        total = results["loss"] + extra["distilled"]
        if self._discriminator is not None:
            extra["discriminator"] = self._discriminator.loss(outputs.pooled, taught.pooled)
            total = total + extra["discriminator"]
        return total, results | extra

    def measure(self, network: Dimp) -> dict[str, float]:
        """How well it follows the held-out sequences from their first boxes."""
        sequences = [(track.boxes, frames_of(track)) for track in self._held_out]
        return validate_boxes(network, sequences, self.device) if sequences else {}


def _groups(network: Dimp, config: TemplateTrainConfig) -> list[dict[str, object]]:
    """One group per learning rate and decay; parameters that no name fits, or that are frozen, keep their values."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        fitting = [prefix for prefix in config.learning_rates if name.startswith(prefix)]
        if fitting and parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((config.learning_rates[max(fitting, key=len)], decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def load_teacher(name_or_path: str, student: TemplateConfig) -> Dimp:
    """The network that teaches; ConfigError if what it says cannot be laid beside what the student says."""
    teacher, place = load_model(name_or_path).network, f"distill.teacher {name_or_path}"
    if not isinstance(teacher, Dimp):
        raise ConfigError("only a template network can teach a template network", teacher.config.name, place)
    for (what, theirs), ours in zip(_shared(teacher.config).items(), _shared(student).values(), strict=True):
        if theirs != ours:
            raise ConfigError(f"the teacher's {what} is not the student's, {ours}", str(theirs), place)
    return teacher


def _shared(network: TemplateConfig) -> dict[str, object]:
    """Features of teacher and student that are compared: MKDNet's are one network twice."""
    head = network.box_head
    return {
        "input_wh": network.input_wh,
        "stride": network.stride,
        "target_model": network.target_model,
        "box_head.prediction": head.prediction,
        "box_head.loss": head.loss,
    }

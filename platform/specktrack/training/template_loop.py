"""Training a template tracker, with a teacher or without, as one worker."""

from pathlib import Path

import ray.train
import ray.train.torch
import torch

from specktrack.errors import ConfigError
from specktrack.models.checkpoint import load_model
from specktrack.models.inference import fast_dtype
from specktrack.models.template.dimp import Dimp, Pairs, Proposals
from specktrack.models.template.entries import TemplateConfig
from specktrack.training.box_tracks import load_tracks
from specktrack.training.checkpoints import restore
from specktrack.training.loop import train_steps
from specktrack.training.mkdnet import degrade, distillation, own_loss, teach
from specktrack.training.pairs import PairBatches, PairSampler
from specktrack.training.start import first_network, first_rank_first
from specktrack.training.template_config import TemplateTrainConfig
from specktrack.training.template_state import TemplateState


def train_template(config: TemplateTrainConfig) -> None:
    """Read the sequences, make the network, go on where the run stopped."""
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank = context.get_world_rank()
    with first_rank_first():
        tracks = load_tracks(config.data, folder=Path(config.cache).expanduser())
    network = first_network(config)
    assert isinstance(network, Dimp)
    state = TemplateState(network, config, device)
    restore(state)
    lesson = Lesson(config, state, device)
    sampler = PairSampler(tracks, seed=config.seed, config=config.pairs)
    batches = PairBatches(
        tracks, sampler, config.network, batch_size=config.batch_size, steps=range(state.step, config.steps),
        rank=rank, world_size=context.get_world_size(),
    )  # fmt: skip
    train_steps(config, state, batches, lambda pairs: lesson(pairs.to(device), rank))


class Lesson:
    """One step of training, with a teacher or without."""

    def __init__(self, config: TemplateTrainConfig, state: TemplateState, device: torch.device) -> None:
        self._config, self._state, self._dtype = config, state, fast_dtype(device)
        self._teacher: Dimp | None = None
        if config.distill is not None:
            teacher = load_teacher(config.distill.teacher, config.network)
            self._teacher = teacher.to(device).eval().requires_grad_(requires_grad=False)

    def __call__(self, pairs: Pairs, rank: int) -> dict[str, torch.Tensor]:
        """Forward, backward, update of the network and, where there is one, of the discriminator; the metrics."""
        config, state = self._config, self._state
        seed = torch.tensor([config.seed, state.step, rank]).mul(torch.tensor([1_000_003, 1009, 1])).sum()
        generator = torch.Generator().manual_seed(int(seed))
        proposals = Proposals.draw(pairs.search_boxes_nS4, config.network.box_head.proposals, generator)
        if config.distill is None or self._teacher is None:
            results = state.network.losses(state.network.outputs(pairs, proposals, dtype=self._dtype), pairs, proposals)
            state.update(results["loss"])
            return {name: value.detach() for name, value in results.items()}
        recipe = config.distill
        tiny = degrade(pairs, tiny_px=recipe.tiny_px, swapped=recipe.preset == "released", generator=generator)
        taught = teach(self._teacher, state.network, pairs, proposals, recipe, dtype=self._dtype)
        outputs = state.network.outputs(tiny, proposals, dtype=self._dtype)
        results = state.network.losses(outputs, pairs, proposals)
        teacher_results = self._teacher.losses(taught, pairs, proposals)
        results["loss"] = own_loss(results, config.network, recipe)
        extra = distillation(results, teacher_results, outputs, taught, state.discriminator, recipe)
        state.update(results["loss"] + extra["distilled"])
        if state.discriminator is not None:
            extra["discriminator"] = state.discriminator.loss(outputs.pooled, taught.pooled)
            state.update_discriminator(extra["discriminator"])
        return {name: value.detach() for name, value in (results | extra).items()}


def load_teacher(name_or_path: str, student: TemplateConfig) -> Dimp:
    """The network that teaches; ConfigError if what it says cannot be laid beside what the student says."""
    teacher, place = load_model(name_or_path).network, f"distill.teacher {name_or_path}"
    if not isinstance(teacher, Dimp):
        raise ConfigError("a template network learns from a template network only", teacher.config.name, place)
    for (what, theirs), ours in zip(_shared(teacher.config).items(), _shared(student).values(), strict=True):
        if theirs != ours:
            raise ConfigError(f"the teacher's {what} is not the student's, {ours}", str(theirs), place)
    return teacher


def _shared(network: TemplateConfig) -> dict[str, object]:
    """What teacher and student see alike, and what is compared between them: MKDNet's are one network twice."""
    head = network.box_head
    return {
        "input_wh": network.input_wh,
        "stride": network.stride,
        "target_model": network.target_model,
        "box_head.prediction": head.prediction,
        "box_head.loss": head.loss,
    }

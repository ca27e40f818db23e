"""Training a template tracker: the function that starts it, and the loop of one worker in the order things happen."""

import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train
import ray.train.collective
import ray.train.torch
import torch
from ray.train import Checkpoint

from specktrack import storage
from specktrack.cluster import connected
from specktrack.datasets import load_dataset
from specktrack.models import build
from specktrack.models.checkpoint import load_model, model_path
from specktrack.models.dimp import Dimp, Pairs, Proposals
from specktrack.models.inference import fast_dtype
from specktrack.training.box_tracks import load_tracks
from specktrack.training.config import TrainReport
from specktrack.training.journal import MODEL, Journal
from specktrack.training.mkdnet import degrade, distillation, teach
from specktrack.training.pairs import BoxTrack, PairBatches, PairSampler
from specktrack.training.template_config import TemplateTrainConfig
from specktrack.training.template_state import TemplateState
from specktrack.training.trainer import claim, fit


def train_template(config: TemplateTrainConfig) -> TrainReport:
    """Train to the end, resuming the unfinished run in ``config.output`` if there is one.

    Raises ConfigError if the output holds a run of another configuration, with the keys that differ.
    """
    started = time.monotonic()
    for uri in config.data:
        load_dataset(uri)  # refuse here, in one sentence, what every worker would fail on
    if config.distill is not None:
        model_path(config.distill.teacher)
    store = storage.open_store(config.output)
    claim(store, config, {})
    with connected(config.address):
        metrics = fit(template_loop, config, store.uri.removeprefix("file://"))
    return TrainReport(
        model=store.uri_of(MODEL),
        steps=metrics["step"],
        wall_s=round(time.monotonic() - started, 1),
        validation={name.removeprefix("train/"): value for name, value in metrics.items() if name.startswith("train/")},
    )


def template_loop(values: dict[str, Any]) -> None:
    """Train as one worker of a TorchTrainer; ``values`` is a TemplateTrainConfig as JSON."""
    config = TemplateTrainConfig.model_validate(values)
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank = context.get_world_rank()
    state = _state(config, device)
    learn = Lesson(config, state, device)
    tracks = _tracks(config)
    sampler = PairSampler(tracks, seed=config.seed, config=config.pairs)
    batches = PairBatches(
        tracks, sampler, config.network, batch_size=config.batch_size, steps=range(state.step, config.steps),
        rank=rank, world_size=context.get_world_size(),
    )  # fmt: skip
    with Journal(config, enabled=rank == 0, first_step=state.step) as journal:
        for pairs in batches:
            results = learn(pairs.to(device), rank)
            last = state.step == config.steps
            if state.step % config.log_every == 0 or state.step == 1 or last:
                journal.write(state.step, "train", {**results, "learning_rate_factor": state.factor()})
            if state.step % config.checkpoint_every == 0 or last:
                _checkpoint(state, journal, rank)
        if rank == 0:
            journal.save_model(state.average)


class Lesson:
    """One step of training, with a teacher or without."""

    def __init__(self, config: TemplateTrainConfig, state: TemplateState, device: torch.device) -> None:
        self._config, self._state, self._dtype = config, state, fast_dtype(device)
        self._teacher: Dimp | None = None
        if config.distill is not None:
            teacher = load_model(config.distill.teacher).network
            assert isinstance(teacher, Dimp)
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
        extra = distillation(results, teacher_results, outputs, taught, state.discriminator, recipe)
        state.update(results["loss"] + extra["distilled"])
        if state.discriminator is not None:
            extra["discriminator"] = state.discriminator.loss(outputs.pooled, taught.pooled)
            state.update_discriminator(extra["discriminator"])
        return {name: value.detach() for name, value in (results | extra).items()}


def _tracks(config: TemplateTrainConfig) -> list[BoxTrack]:
    """The sequences; the first rank of a node decodes them, the others then find the result."""
    first_on_node = ray.train.get_context().get_local_rank() == 0
    if not first_on_node:
        ray.train.collective.barrier()
    tracks = load_tracks(config.data, folder=Path(config.cache).expanduser())
    if first_on_node:
        ray.train.collective.barrier()
    return tracks


def _state(config: TemplateTrainConfig, device: torch.device) -> TemplateState:
    """Fresh, started from other weights, or as the last checkpoint of this run left it."""
    torch.manual_seed(config.seed)  # initial weights: the one draw that torch offers no generator for
    network = load_model(config.init).network if config.init else build(config.network)
    assert isinstance(network, Dimp)
    state = TemplateState(network, config, device)
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state.restore(folder)
    return state


def _checkpoint(state: TemplateState, journal: Journal, rank: int) -> None:
    """Every rank reports; rank 0 brings the checkpoint."""
    if rank != 0:
        ray.train.report({"step": state.step})
        return
    with tempfile.TemporaryDirectory(prefix="specktrack-checkpoint-") as folder:
        state.save(folder)
        ray.train.report({"step": state.step, **journal.latest}, checkpoint=Checkpoint.from_directory(folder))

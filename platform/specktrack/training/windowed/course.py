"""Training a network on windows of frames."""

from functools import partial

import torch

from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model, load_model
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.sampling import WindowSampler
from specktrack.training.course import Course, Tensors, reading_of
from specktrack.training.frame_cache import CachedVideo, load_videos
from specktrack.training.start import first_network
from specktrack.training.state import TrainState
from specktrack.training.validation import validate
from specktrack.training.windowed.batches import Batch, Batches
from specktrack.training.windowed.config import WindowedTrainConfig
from specktrack.training.windowed.distill import Distillation, window_frames
from specktrack.training.windowed.learning import judged, varied
from specktrack.training.windowed.mining import with_decoys, with_hard_frames
from specktrack.training.windowed.narrowing import narrowed


class WindowedCourse(Course[HeatmapNetwork, Batch]):
    """Windows of labelled videos; beside the labels, what a teacher sees in them."""

    def __init__(self, config: WindowedTrainConfig, device: torch.device) -> None:
        self.device = device
        self._teacher = load_model(config.distill.teacher) if config.distill else None
        self._distillation: Distillation | None = None
        training, self._held_out = _videos(config, device, self._teacher)
        sampler = WindowSampler(
            [video.sampling for video in training],
            frames_in=window_frames(*_entries(config, self._teacher)),
            seed=config.seed,
            config=config.sampling,
        )
        self.config: WindowedTrainConfig = config.with_steps(windows=len(sampler))
        self._batches = Batches(training, sampler, batch_size=config.batch_size, device=device)

    def network(self) -> HeatmapNetwork:
        """See Course; a narrower SpeckNet takes a part of the weights of ``init``."""
        return first_network(self.config, HeatmapNetwork, cut=narrowed)

    def state(self, network: HeatmapNetwork) -> TrainState[HeatmapNetwork]:
        """See Course: beside the network, a distillation's adapters."""
        if self._teacher and self.config.distill:
            student = network.to(self.device)
            self._distillation = Distillation(student, self._teacher, self.config.distill, self.device)
        state = TrainState(network, self.config, self.device, extra=self._distillation)
        if self.config.compile:
            state.network.compile()
        return state

    def read(self, numbers: range) -> Tensors:
        """See Course."""
        return self._batches.read(numbers)

    def batch(self, numbers: range, read: Tensors) -> Batch:
        """See Course."""
        return self._batches.batch(numbers, read)

    def loss(self, network: HeatmapNetwork, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Course. Pictures vary before the run's precision counts."""
        with torch.autocast(self.device.type, enabled=False):
            blend = varied(batch, self.config.augment)
        # For dropout, which takes no generator: the same after a restart, on whichever worker.
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=batch.generator)))
        results = judged(network, blend, hard=batch.hard, mining=self.config.mining, distillation=self._distillation)
        return results["loss"], results

    def measure(self, network: HeatmapNetwork) -> dict[str, float]:
        """Counts over all frames of the held-out videos."""
        return validate(network, self._held_out, self.device) if self._held_out else {}


def _videos(
    config: WindowedTrainConfig, device: torch.device, teacher: Model | None
) -> tuple[list[CachedVideo], list[CachedVideo]]:
    """Training and validation videos."""
    reading = reading_of(config)
    background = any(entry.pictures_in > entry.frames_in for entry in _entries(config, teacher))
    load = partial(
        load_videos, input_wh=config.network.input_wh, reading=reading, background=background,
        draw_occluded=config.occluded == "drawn",
    )  # fmt: skip
    training, held_out = load(config.data), load(config.validation)
    if config.mining:
        training = with_hard_frames(training, load_model(config.mining.model), device, reading.folder)
    if config.decoys:
        training = with_decoys(training, load_model(config.decoys), device, reading.folder)
    if every := config.hold_out_every:
        held_out = held_out + training[every - 1 :: every]
        training = [video for index, video in enumerate(training) if (index + 1) % every]
    if config.best_by and not held_out:
        raise ConfigError(
            f"keep={config.keep} has no video to validate on", every, "hold_out_every", "use a smaller value"
        )
    return [video.to(device) for video in training], held_out


def _entries(config: WindowedTrainConfig, teacher: Model | None) -> list[WindowedConfig]:
    """Whose frames a batch holds: the network's, and its teacher's."""
    taught = teacher.config if teacher else config.network
    assert isinstance(taught, WindowedConfig)
    return [config.network, taught]

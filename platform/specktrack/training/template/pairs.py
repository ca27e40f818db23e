"""Templates and search regions for training: which frames of which sequence, how they are jittered, and their pixels.

As published for DiMP: every dataset is drawn from as often as any other, and in it every sequence that has more than
twice the labelled frames of a sample (published are at least 20 frames, too). Templates lie before a base frame and
search regions after it, at most ``max_gap`` frames away. Sample number i is a function of (seed, i), so ranks take
slices of one list and resuming is an offset into it.
"""

# n pictures, S sequences, H W network px

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np
import torch

from specktrack import telemetry
from specktrack.errors import ConfigError, MediaError
from specktrack.models.template.dimp import Pairs
from specktrack.models.template.entries import TemplateConfig
from specktrack.schema import Box
from specktrack.tracking.template.region import Region
from specktrack.training.template.config import PairConfig

log = telemetry.get_logger()


class Pictures(Protocol):
    """Frames of one sequence, uint8 [H, W, 3] each, in any order."""

    def __getitem__(self, frame: int) -> np.ndarray: ...


@dataclass(frozen=True)
class BoxTrack:
    """One labelled sequence."""

    name: str
    pictures: Pictures
    boxes: np.ndarray
    """float64 [N, 4]: cx, cy, w, h in source px; NaN where the target is absent or not labelled."""
    dataset: str = ""
    """Where it is from."""


@dataclass(frozen=True)
class Sample:
    """Frames of one sequence."""

    track: int
    templates: tuple[int, ...]
    searches: tuple[int, ...]


class PairSampler:
    """Sample number i of a run."""

    def __init__(self, tracks: Sequence[BoxTrack], *, seed: int, config: PairConfig) -> None:
        self.seed, self.config = seed, config
        self._visible = [np.flatnonzero(np.isfinite(track.boxes).all(axis=1)) for track in tracks]
        taken, by_dataset = config.templates + config.searches, defaultdict[str, list[int]](list)
        for i, (track, visible) in enumerate(zip(tracks, self._visible, strict=True)):
            if len(visible) > 2 * taken:
                by_dataset[track.dataset].append(i)
        if not by_dataset:
            what = f"no sequence has more than {2 * taken} frames with a box, twice what one sample takes"
            raise ConfigError(what, place="training data", remedy="lower pairs.templates and pairs.searches")
        self._usable = list(by_dataset.values())

    def generator(self, number: int) -> np.random.Generator:
        """The generator for what is still drawn at random for a sample."""
        return np.random.default_rng([self.seed, 1, number])

    def sample(self, number: int, *, attempt: int = 0) -> Sample:
        """A sequence, a base frame, and frames before and after it; the gap grows until there are enough."""
        random, config = np.random.default_rng([self.seed, 0, number, *range(attempt)]), self.config
        sequences = self._usable[random.integers(len(self._usable))]
        track = sequences[random.integers(len(sequences))]
        visible = self._visible[track]
        base = int(random.integers(config.templates - 1, len(visible) - config.searches))
        gap = config.max_gap
        while True:
            before = visible[:base][visible[:base] >= visible[base] - gap]
            after = visible[base + 1 :][visible[base + 1 :] <= visible[base] + gap]
            if len(before) >= config.templates - 1 and len(after) >= config.searches:
                break
            gap += 5
        earlier = random.choice(before, config.templates - 1, replace=False) if config.templates > 1 else ()
        later = random.choice(after, config.searches, replace=False)
        return Sample(track, (int(visible[base]), *map(int, earlier)), tuple(map(int, later)))


def cut_sample(
    track: BoxTrack, sample: Sample, network: TemplateConfig, config: PairConfig, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures float32 [templates + searches, 3, H, W] in [0, 1] and boxes x, y, w, h [.., 4] in network px."""
    grey = random.random() < config.grey
    search_jitter = config.search_jitter or (network.search_area - 0.5, 0.5)
    kinds = [(frame, config.template_jitter, False) for frame in sample.templates]
    kinds += [(frame, search_jitter, config.distractors > 0) for frame in sample.searches]
    pictures, boxes = [], []
    for frame, (centre_jitter, size_jitter), may_distract in kinds:
        cx, cy, w, h = track.boxes[frame]
        pixels = track.pictures[frame]
        size = math.sqrt(w * h) * math.exp(random.normal(size=2).mean() * size_jitter)  # each side by its own draw
        dx, dy = (random.random(2) - 0.5) * size * centre_jitter
        elsewhere = may_distract and random.random() < config.distractors
        if elsewhere:
            dx, dy = random.random(2) * (pixels.shape[1], pixels.shape[0]) - (cx, cy)
        region = Region.around(
            (cx + dx, cy + dy), max(2.0, math.ceil(size * network.search_area)), (pixels.shape[1], pixels.shape[0]),
            network.input_wh[0], border="inside_major", most_shrink=1.5,
        )  # fmt: skip
        picture = region.cut(pixels) / 255 * float(1 + random.uniform(-1, 1) * config.brightness)
        box = torch.tensor(region.box_net(Box(cx_px=cx, cy_px=cy, w_px=w, h_px=h)))
        if grey:
            picture = picture.mean(dim=0, keepdim=True).expand(3, -1, -1)
        if random.random() < config.mirrored:
            picture = picture.flip(-1)
            box[0] = network.input_wh[0] - box[0] - box[2]
        if elsewhere and not _touches(box, network.input_wh[0]):
            box = torch.full((4,), torch.nan)
        pictures.append(picture.clamp(0, 1))
        boxes.append(box)
    return torch.stack(pictures), torch.stack(boxes)


def _touches(box_4: torch.Tensor, side: int) -> bool:
    """Whether any of a box is in a picture of ``side``."""
    return bool((box_4[:2] + box_4[2:] > 0).all() and (box_4[:2] < side).all())


class PairBatches:
    """Samples as tensors; those that cannot be read are left out, but no more than ``most_skipped`` of them."""

    def __init__(
        self, tracks: Sequence[BoxTrack], sampler: PairSampler, network: TemplateConfig, *, most_skipped: int
    ) -> None:
        self._tracks, self._sampler, self._network = tracks, sampler, network
        self._most_skipped, self._skipped = max(1, most_skipped), 0

    def batch(self, numbers: range) -> Pairs:
        """The samples of these numbers."""
        pictures, boxes = zip(*(self._cut(number) for number in numbers), strict=True)
        all_pictures, all_boxes = torch.stack(pictures, dim=1), torch.stack(boxes, dim=1)
        n = self._sampler.config.templates
        return Pairs(all_pictures[:n], all_boxes[:n], all_pictures[n:], all_boxes[n:])

    def _cut(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample ``number``, or the one drawn in its place where a picture cannot be read."""
        for attempt in count():
            sample = self._sampler.sample(number, attempt=attempt)
            try:
                return cut_sample(
                    self._tracks[sample.track], sample, self._network, self._sampler.config,
                    self._sampler.generator(number),
                )  # fmt: skip
            except MediaError as error:
                self._skipped += 1
                log.warning("sample skipped: a picture cannot be read", reason=str(error), skipped=self._skipped)
                if self._skipped > self._most_skipped:
                    raise ConfigError(
                        "too many samples cannot be read", self._skipped, error.place, "copy the pictures again"
                    ) from error
        raise AssertionError("count() does not end")

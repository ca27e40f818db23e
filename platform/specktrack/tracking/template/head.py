"""A template network following one target: what it sees around a place, the target's box there, and what it learns.

The caller decides where to look and what to believe: ``TemplateSession`` as published, ``tracking.follower`` also by
the target's trajectory and by other sources.
"""

# n samples, C channel, h w cells, H W network px

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from specktrack.models.template.dimp import Dimp
from specktrack.models.template.iou_net import Features
from specktrack.schema import Box
from specktrack.tracking.template.boxes import refine_box
from specktrack.tracking.template.localise import Peak, State, highest_peaks, localise
from specktrack.tracking.template.region import Region
from specktrack.tracking.template.samples import SampleMemory, prompt_samples, variations, with_dropout

LEAST_INSIDE = 0.2
"""Share of the target that stays in the frame: a position is moved back when less would."""


@dataclass(frozen=True)
class Look:
    """The view of a frame in a search region."""

    region: Region
    features: Features
    seen: torch.Tensor
    """The target model's input, [C, h, w]."""
    scores_HW: np.ndarray
    """The target model's, [h + 1, w + 1]."""


class TemplateHead:
    """Live state of one target: its box, the memory of its looks and the filter learned from them."""

    def __init__(self, network: Dimp, box: Box, *, device: torch.device) -> None:
        self._network, self._config, self._device = network, network.config, device
        self._online = network.config.online
        self.box = box
        """As it was last found."""
        self._modulation: Features | None = None
        self._memory: SampleMemory | None = None
        self._target_model = network.target_model()
        self.seconds: dict[str, float] = defaultdict(float)
        """Time spent so far by stage: cut, features, scores, box, learn, and prompt for all of the first frame."""

    @torch.no_grad()
    def begin(self, frame: int, pixels: np.ndarray) -> None:
        """Learn the target model and the box head's modulation from the prompt's frame and box."""
        with self._timed("prompt"):
            side_net, box = self._config.input_wh[0], self.box
            generator = _generator(frame)
            centre = (round(box.cx_px), round(box.cy_px))
            size = 2 * _side(box) * self._config.search_area
            region = Region.around(centre, size, _wh(pixels), 2 * side_net, border="replicate", most_shrink=1.0)
            ways = variations(self._online, side_net, generator)
            pictures, boxes = prompt_samples(region.cut(pixels), region, box, ways)
            boxes = boxes.to(self._device)
            features = self._network.features(pictures.to(self._device) / 255)
            first = (features[0][:1], features[1][:1])
            self._modulation = self._network.bb_regressor.modulation(first, boxes[:1])
            seen = with_dropout(self._network.target_features(features), self._online, generator)
            boxes = torch.cat([boxes, boxes[:1].expand(self._online.dropouts, -1)])
            self._memory = SampleMemory(seen, boxes, self._online)
            self._target_model.learn(*self._memory.samples(), iterations=self._online.first_iterations)

    @torch.no_grad()
    def look(self, pixels: np.ndarray, centre_xy_px: tuple[float, float], *, wider: float = 1.0) -> Look:
        """See the search region around a place; ``wider`` shows more of the frame at the same scale."""
        side_net = round(self._config.input_wh[0] * wider / 16) * 16 if wider != 1 else self._config.input_wh[0]
        region = Region.around(
            centre_xy_px, _side(self.box) * self._config.search_area * wider, _wh(pixels), side_net,
            border=self._online.border, most_shrink=self._online.most_shrink,
        )  # fmt: skip
        with self._timed("cut"):
            picture = region.cut(pixels).to(self._device)
        with self._timed("features"):
            features = self._network.features(picture[None] / 255)
            seen = self._network.target_features(features)[0]
        with self._timed("scores"):
            scores = self._target_model.score(seen)
            if self._online.softmax:
                scores = scores.flatten().softmax(dim=0).view_as(scores)
            return Look(region, features, seen, scores.float().cpu().numpy())

    def peak(self, look: Look) -> Peak:
        """Where the target is by the published rules."""
        x, y, w, h = (side / self._config.stride for side in look.region.box_net(self.box))
        previous = (x + w / 2 - self._offset, y + h / 2 - self._offset)
        return localise(
            look.scores_HW, target_wh_cells=(w, h), previous_xy_cells=previous, config=self._online
        )  # fmt: skip

    def peaks(self, look: Look, count: int) -> list[Peak]:
        """The ``count`` highest peaks that are not one another's neighbours, best first."""
        _, _, w, h = (side / self._config.stride for side in look.region.box_net(self.box))
        return highest_peaks(look.scores_HW, count, target_wh_cells=(w, h), config=self._online)

    def place(self, peak: Peak, region: Region, pixels: np.ndarray) -> Box:
        """The last box at a peak, with some of it inside the frame."""
        return kept_inside(region.box_px(*self._coarse(peak, region).tolist()), _wh(pixels))

    @torch.no_grad()
    def settle(self, peak: Peak, look: Look, frame: int, pixels: np.ndarray) -> Box:
        """The target was at a peak: its box there, refined by the box head."""
        with self._timed("box"):
            coarse = self._coarse(peak, look.region)
            found = self._refined(look.features, coarse, frame) if self._online.box_steps else None
            if found is not None and self._online.size_gain is not None:
                found = grown(coarse, found, self._online.size_gain)
            found = coarse if found is None else found
            self.box = kept_inside(look.region.box_px(*found.tolist()), _wh(pixels))
        return self.box

    @torch.no_grad()
    def learn(self, look: Look, state: State, frames_since: int) -> None:
        """Remember what was seen and learn from the memory, when it is time or a distractor appeared."""
        online = self._online
        if state is State.UNCERTAIN:
            return
        assert self._memory is not None
        with self._timed("learn"):
            distracted = state is State.DISTRACTOR
            box = torch.tensor(look.region.box_net(self.box), device=self._device)
            rate = online.distractor_learning_rate if distracted else online.learning_rate
            self._memory.add(look.seen, box, learning_rate=rate)
            if distracted:
                self._target_model.learn(*self._memory.samples(), iterations=online.distractor_iterations)
            elif frames_since % online.update_every == 0:
                self._target_model.learn(*self._memory.samples(), iterations=online.update_iterations)

    @property
    def _offset(self) -> float:
        """Cells between a score's number and its filter's middle."""
        return (self._config.target_model.filter_size % 2) / 2

    def _coarse(self, peak: Peak, region: Region) -> torch.Tensor:
        """The last box moved to a peak: x, y, w, h in network px."""
        cx, cy = ((cell + self._offset) * self._config.stride for cell in peak.xy_cells)
        w, h = self.box.w_px / region.scale, self.box.h_px / region.scale
        return torch.tensor([cx - w / 2, cy - h / 2, w, h], device=self._device)

    def _refined(self, features: Features, box_4: torch.Tensor, frame: int) -> torch.Tensor | None:
        assert self._modulation is not None
        head = self._network.bb_regressor
        search = head.search_features(features)
        return refine_box(head, search, self._modulation, box_4, self._online, _generator(frame))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started


def grown(coarse_4: torch.Tensor, refined_4: torch.Tensor, gain: float) -> torch.Tensor:
    """The coarse box, grown in both sides alike by ``gain`` of what (in the logarithm) the refined one is larger."""
    factor = (refined_4[2:].prod() / coarse_4[2:].prod()) ** (gain / 2)
    return torch.cat([coarse_4[:2] + coarse_4[2:] * (1 - factor) / 2, coarse_4[2:] * factor])


def kept_inside(box: Box, frame_wh_px: tuple[int, int]) -> Box:
    """The box, at most as large as the frame and with some of it inside."""
    w, h = (min(max(side, 1.0), float(frame)) for side, frame in zip((box.w_px, box.h_px), frame_wh_px, strict=True))
    edge = 0.5 - LEAST_INSIDE
    cx = min(max(box.cx_px, -edge * w), frame_wh_px[0] - 1 + edge * w)
    cy = min(max(box.cy_px, -edge * h), frame_wh_px[1] - 1 + edge * h)
    return Box(cx_px=cx, cy_px=cy, w_px=w, h_px=h)


def _generator(frame: int) -> torch.Generator:
    """For what is drawn at random in one frame, so that rows are the same however the frames came."""
    return torch.Generator().manual_seed(1_000_003 * (frame + 1))


def _side(box: Box) -> float:
    return math.sqrt(box.w_px * box.h_px)


def _wh(pixels_HWC: np.ndarray) -> tuple[int, int]:
    return pixels_HWC.shape[1], pixels_HWC.shape[0]

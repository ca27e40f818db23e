"""Following one target from its box: search region -> scores -> position -> box -> memory -> learning.

A session sees frames at source size and learns as it goes, so its rows depend on all frames since the prompt: a video
that is followed so stays one clip. They do not depend on how the frames came in batches.
"""

# H W network px

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Model
from specktrack.models.template.dimp import Dimp
from specktrack.models.template.entries import OnlineConfig
from specktrack.models.template.iou_net import Features
from specktrack.schema import Box, Prompt, Provenance
from specktrack.tracking.template.boxes import refine_box
from specktrack.tracking.template.localise import Peak, State, localise
from specktrack.tracking.template.region import Region, check_box
from specktrack.tracking.template.samples import SampleMemory, prompt_samples, variations, with_dropout

LEAST_INSIDE = 0.2
"""Share of the target that stays in the frame: a position is moved back when less would."""


class TemplateTracker:
    """A template network made ready on a device; its sessions need a prompt."""

    stride = 1
    lead = None
    """Rows depend on all frames since the prompt."""
    step_s = None
    wants_background = False

    def __init__(self, model: Model, *, device: torch.device, best_point: bool = False) -> None:
        assert isinstance(model.network, Dimp)
        self._best_point = best_point
        self.model = model
        self._network = model.network.eval().to(device).requires_grad_(requires_grad=False)
        self._device = device

    @property
    def config(self) -> OnlineConfig:
        """Settings of the tracker while it follows."""
        return self._network.config.online

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """Frames come at source size: the session cuts its search region from them."""
        return Viewport(source_wh_px, source_wh_px)

    def open(self, prompt: Prompt | None = None) -> "TemplateSession":
        """A new session; ConfigError without a prompt."""
        if prompt is None:
            raise ConfigError(
                "this model follows what a prompt shows", self.model.card.name,
                remedy="give a frame and a box: --prompt frame,cx,cy,w,h",
            )  # fmt: skip
        return TemplateSession(self._network, prompt, device=self._device, best_point=self._best_point)


class TemplateSession:
    """Live state of following one target; with ``best_point`` rows of a lost target hold the highest score's place."""

    def __init__(self, network: Dimp, prompt: Prompt, *, device: torch.device, best_point: bool = False) -> None:
        self._network, self._config, self._device = network, network.config, device
        self._prompt, self._box, self._best_point = prompt, prompt.box, best_point
        self._viewport: Viewport | None = None
        self._next: int | None = None
        self._modulation: Features | None = None
        self._memory: SampleMemory | None = None
        self._target_model = network.target_model()
        self._online = network.config.online
        self.lost = False
        """The target was not found in the last frame."""
        self.seconds: dict[str, float] = defaultdict(float)
        """Time spent so far by stage: cut, features, scores, box, learn, and prompt for all of the first frame."""

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take the next frames; every row is final at once. ConfigError if the frames begin after the prompt's."""
        if not len(batch):
            return Trajectory.empty()
        self._check(batch)
        boxes, scores = [], []
        for frame, pixels in zip(batch.frame.tolist(), batch.pixels, strict=True):
            box, score = self._follow(frame, pixels)
            boxes.append((box.cx_px, box.cy_px, box.w_px, box.h_px) if box else (math.nan,) * 4)
            scores.append(score)
        rows = np.array(boxes, np.float32)
        return Trajectory(
            frame=batch.frame,
            pts_s=batch.pts_s,
            xy_px=rows[:, :2],
            score=np.array(scores, np.float32),
            provenance=np.full(len(batch), Provenance.TRACKED.value, object),
            wh_px=rows[:, 2:],
        )

    def finish(self) -> Trajectory:
        """No row waits for later frames; ConfigError if the prompt's frame never came."""
        if self._next is not None and self._next <= self._prompt.frame:
            raise ConfigError(
                "the video ends before the prompt's frame", self._prompt.frame, f"{self._next} frames",
                "give a frame that the video has",
            )  # fmt: skip
        return Trajectory.empty()

    def provisional(self) -> Trajectory:
        """No row waits."""
        return Trajectory.empty()

    def look_at(self, box: Box) -> None:
        """Search around ``box`` in the next frame: where another search found the target again."""
        self._box = box

    def _check(self, batch: FrameBatch) -> None:
        if self._next is None:
            self._viewport, self._next = batch.viewport, int(batch.frame[0])
            if batch.viewport.source_wh_px != batch.viewport.network_wh_px:
                raise ValueError(f"a template session wants frames at source size, got {batch.viewport}")
            if self._next > self._prompt.frame:
                raise ConfigError(
                    "the frames begin after the prompt's frame", self._prompt.frame, f"first frame {self._next}"
                )
            check_box(self._prompt.box, batch.viewport.source_wh_px)
        if batch.frame[0] != self._next:
            raise ValueError(f"frames must follow one another: expected frame {self._next}, got {batch.frame[0]}")
        if batch.viewport != self._viewport:
            raise ValueError(f"a session keeps its viewport: expected {self._viewport}, got {batch.viewport}")
        self._next = int(batch.frame[-1]) + 1

    @torch.no_grad()
    def _follow(self, frame: int, pixels: np.ndarray) -> tuple[Box | None, float]:
        """The target's box in a frame, or None, and its score."""
        if frame < self._prompt.frame:
            return None, 0.0
        if frame == self._prompt.frame:
            with self._timed("prompt"):
                self._begin(frame, pixels)
            return self._box, 1.0
        assert self._memory is not None
        size = math.sqrt(self._box.w_px * self._box.h_px) * self._config.search_area
        region = self._region((self._box.cx_px, self._box.cy_px), size, pixels)
        with self._timed("cut"):
            picture = region.cut(pixels).to(self._device)
        with self._timed("features"):
            features = self._network.features(picture[None] / 255)
            seen = self._network.target_features(features)[0]
        with self._timed("scores"):
            peak = self._peak(seen, region)
        self.lost = peak.state is State.LOST
        if self.lost:
            return self._doubtful(peak, region, pixels) if self._best_point else None, _unit(peak.score)
        with self._timed("box"):
            self._box = self._placed(peak, region, features, frame, pixels)
        with self._timed("learn"):
            self._learn(seen, region, peak.state, frame - self._prompt.frame)
        return self._box, _unit(peak.score)

    def _begin(self, frame: int, pixels: np.ndarray) -> None:
        """Learn the target model and the box head's modulation from the prompt."""
        side_net, box = self._config.input_wh[0], self._box
        generator = _generator(frame)
        centre = (round(box.cx_px), round(box.cy_px))
        size = 2 * math.sqrt(box.w_px * box.h_px) * self._config.search_area
        height, width = pixels.shape[:2]
        region = Region.around(centre, size, (width, height), 2 * side_net, border="replicate", most_shrink=1.0)
        ways = variations(self._online, side_net, generator)
        pictures, boxes = prompt_samples(region.cut(pixels), region, box, ways)
        boxes = boxes.to(self._device)
        features = self._network.features(pictures.to(self._device) / 255)
        self._modulation = self._network.bb_regressor.modulation((features[0][:1], features[1][:1]), boxes[:1])
        seen = with_dropout(self._network.target_features(features), self._online, generator)
        boxes = torch.cat([boxes, boxes[:1].expand(self._online.dropouts, -1)])
        self._memory = SampleMemory(seen, boxes, self._online)
        self._target_model.learn(*self._memory.samples(), iterations=self._online.first_iterations)

    def _region(self, centre_xy_px: tuple[float, float], side_px: float, pixels: np.ndarray) -> Region:
        return Region.around(
            centre_xy_px, side_px, (pixels.shape[1], pixels.shape[0]), self._config.input_wh[0],
            border=self._online.border, most_shrink=self._online.most_shrink,
        )  # fmt: skip

    def _peak(self, seen: torch.Tensor, region: Region) -> Peak:
        scores = self._target_model.score(seen)
        if self._online.softmax:
            scores = scores.flatten().softmax(dim=0).view_as(scores)
        x, y, w, h = (side / self._config.stride for side in region.box_net(self._box))
        offset = (self._config.target_model.filter_size % 2) / 2
        previous = (x + w / 2 - offset, y + h / 2 - offset)
        return localise(
            scores.float().cpu().numpy(), target_wh_cells=(w, h), previous_xy_cells=previous, config=self._online
        )

    def _coarse(self, peak: Peak, region: Region) -> torch.Tensor:
        """The last box moved to a peak: x, y, w, h in network px."""
        offset = (self._config.target_model.filter_size % 2) / 2
        cx, cy = ((cell + offset) * self._config.stride for cell in peak.xy_cells)
        w, h = self._box.w_px / region.scale, self._box.h_px / region.scale
        return torch.tensor([cx - w / 2, cy - h / 2, w, h], device=self._device)

    def _doubtful(self, peak: Peak, region: Region, pixels: np.ndarray) -> Box:
        """Position for the row alone; following goes on from another one."""
        return _kept_inside(region.box_px(*self._coarse(peak, region).tolist()), (pixels.shape[1], pixels.shape[0]))

    def _placed(self, peak: Peak, region: Region, features: Features, frame: int, pixels: np.ndarray) -> Box:
        """The box at a peak, refined by the box head."""
        coarse = self._coarse(peak, region)
        refined = None
        if self._online.box_steps:
            assert self._modulation is not None
            head = self._network.bb_regressor
            search = head.search_features(features)
            refined = refine_box(head, search, self._modulation, coarse, self._online, _generator(frame))
        if refined is not None and self._online.size_gain is not None:
            refined = _grown(coarse, refined, self._online.size_gain)
        found = region.box_px(*(coarse if refined is None else refined).tolist())
        return _kept_inside(found, (pixels.shape[1], pixels.shape[0]))

    def _learn(self, seen: torch.Tensor, region: Region, state: State, frames_since: int) -> None:
        """Remember the sample and learn from the memory, when it is time or a distractor appeared."""
        online = self._online
        if state is State.UNCERTAIN:
            return
        assert self._memory is not None
        distracted = state is State.DISTRACTOR
        box = torch.tensor(region.box_net(self._box), device=self._device)
        rate = online.distractor_learning_rate if distracted else online.learning_rate
        self._memory.add(seen, box, learning_rate=rate)
        if distracted:
            self._target_model.learn(*self._memory.samples(), iterations=online.distractor_iterations)
        elif frames_since % online.update_every == 0:
            self._target_model.learn(*self._memory.samples(), iterations=online.update_iterations)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started


def _generator(frame: int) -> torch.Generator:
    """For what is drawn at random in one frame, so that rows are the same however the frames came."""
    return torch.Generator().manual_seed(1_000_003 * (frame + 1))


def _unit(score: float) -> float:
    return min(max(score, 0.0), 1.0)


def _grown(coarse_4: torch.Tensor, refined_4: torch.Tensor, gain: float) -> torch.Tensor:
    """The coarse box, grown in both sides alike by ``gain`` of what (in the logarithm) the refined one is larger."""
    factor = (refined_4[2:].prod() / coarse_4[2:].prod()) ** (gain / 2)
    return torch.cat([coarse_4[:2] + coarse_4[2:] * (1 - factor) / 2, coarse_4[2:] * factor])


def _kept_inside(box: Box, frame_wh_px: tuple[int, int]) -> Box:
    """The box, at most as large as the frame and with some of it inside."""
    w, h = (min(max(side, 1.0), float(frame)) for side, frame in zip((box.w_px, box.h_px), frame_wh_px, strict=True))
    edge = 0.5 - LEAST_INSIDE
    cx = min(max(box.cx_px, -edge * w), frame_wh_px[0] - 1 + edge * w)
    cy = min(max(box.cy_px, -edge * h), frame_wh_px[1] - 1 + edge * h)
    return Box(cx_px=cx, cy_px=cy, w_px=w, h_px=h)

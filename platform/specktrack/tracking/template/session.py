"""Following one target from its box: search region -> scores -> position -> box -> memory -> learning.

A session sees frames at source size and learns as it goes, so its rows depend on all frames since the prompt: a video
that is followed so stays one clip. They do not depend on how the frames came in batches.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Model
from specktrack.models.template.dimp import Dimp
from specktrack.models.template.entries import OnlineConfig
from specktrack.schema import Box, Prompt, Provenance
from specktrack.tracking.prompts import check_box, prompts_by_object
from specktrack.tracking.template.candidates import HeadCandidates
from specktrack.tracking.template.head import TemplateHead
from specktrack.tracking.template.localise import State


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

    def candidates(self) -> HeadCandidates:
        """The network's proposals for one object, for callers that combine several sources."""
        return HeadCandidates(self._network, device=self._device)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "TemplateSession":
        """A new session; ConfigError unless there is one prompt."""
        told = [each for mine in prompts_by_object(prompt, self.model.card.name).values() for each in mine]
        if len(told) > 1:
            what, remedy = "this tracker takes one prompt, as published", "give it a --finder, or use speckdimp"
            raise ConfigError(what, self.model.card.name, f"{len(told)} prompts", remedy)
        return TemplateSession(self._network, told[0], device=self._device, best_point=self._best_point)


class TemplateSession:
    """Live state of following one target; with ``best_point`` rows of a lost target hold the highest score's place."""

    def __init__(self, network: Dimp, prompt: Prompt, *, device: torch.device, best_point: bool = False) -> None:
        self._prompt, self._best_point = prompt, best_point
        self.head = TemplateHead(network, prompt.box, device=device)
        self._viewport: Viewport | None = None
        self._next: int | None = None
        self.lost = False
        """The target was not found in the last frame."""

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
                "give a frame inside the video",
            )  # fmt: skip
        return Trajectory.empty()

    def provisional(self) -> Trajectory:
        """No row waits."""
        return Trajectory.empty()

    def _check(self, batch: FrameBatch) -> None:
        if self._next is None:
            self._viewport, self._next = batch.viewport, int(batch.frame[0])
            if batch.viewport.source_wh_px != batch.viewport.network_wh_px:
                raise ValueError(f"a template session needs frames at source size, got {batch.viewport}")
            if self._next > self._prompt.frame:
                raise ConfigError(
                    "the frames begin after the prompt's frame", self._prompt.frame, f"first frame {self._next}"
                )
            check_box(self._prompt.box, batch.viewport.source_wh_px, self._prompt.frame)
        if batch.frame[0] != self._next:
            raise ValueError(f"frames must follow one another: expected frame {self._next}, got {batch.frame[0]}")
        if batch.viewport != self._viewport:
            raise ValueError(f"a session keeps its viewport: expected {self._viewport}, got {batch.viewport}")
        self._next = int(batch.frame[-1]) + 1

    def _follow(self, frame: int, pixels: np.ndarray) -> tuple[Box | None, float]:
        """The target's box in a frame, or None, and its score."""
        head = self.head
        if frame < self._prompt.frame:
            return None, 0.0
        if frame == self._prompt.frame:
            head.begin(frame, pixels)
            return head.box, 1.0
        look = head.look(pixels, (head.box.cx_px, head.box.cy_px))
        peak = head.peak(look)
        self.lost = peak.state is State.LOST
        if self.lost:
            return head.place(peak, look.region, pixels) if self._best_point else None, _unit(peak.score)
        box = head.settle(peak, look, frame, pixels)
        head.learn(look, peak.state, frame - self._prompt.frame)
        return box, _unit(peak.score)


def _unit(score: float) -> float:
    return min(max(score, 0.0), 1.0)

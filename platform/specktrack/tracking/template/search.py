"""Following by global search: each frame is searched whole for the template of the prompt; and finding again what a
local tracker lost, where a trajectory says what is likely.

A session has no memory but its template. So rows do not depend on the frames before them, nor on how a video is cut.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Model
from specktrack.models.inference import channels_last, fast_dtype, fold_batch_norm
from specktrack.models.search.global_search import GlobalSearch, Template, best_points
from specktrack.schema import Box, Prompt, Provenance
from specktrack.tracking.candidates import Expected, Picture, Places
from specktrack.tracking.prompts import check_box


class Searching(Config):
    """Settings that change the rows, beside the network."""

    threshold: float = 0.5
    """Score below which the target counts as absent: the loss pushes targets above one half, all else below."""


class Searcher:
    """A search network made ready: templates from pictures, candidates in pictures; all in px of the picture given."""

    def __init__(self, model: Model, *, device: torch.device) -> None:
        if not isinstance(model.network, GlobalSearch):
            raise ConfigError("not a search network", model.card.name, remedy="use global-search, or train one")
        self.config, self._device, self._dtype = model.network.config, device, fast_dtype(device)
        self._network = channels_last(fold_batch_norm(model.network).to(device, self._dtype))

    @torch.inference_mode()
    def template(self, pixels_HWC: np.ndarray, box: np.ndarray) -> Template:
        """The template of ``box`` [4] as centre x, y, width, height in px of ``pixels_HWC`` uint8 RGB."""
        side = self.config.template_px
        reach = max(side, math.ceil(2 * max(box[2:])))  # a target as large as the crop is seen smaller
        left, top = (round(float(c)) - reach // 2 for c in box[:2])
        crop, scale = _crop(pixels_HWC, (left, top), (reach, reach)), side / reach
        if reach != side:
            crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BOX))
        centre = (box[:2] - (left, top) + 0.5) * scale - 0.5
        inside = torch.tensor([[*centre, *(box[2:] * scale)]], dtype=torch.float32, device=self._device)
        return self._network.template(self._tensor(crop), inside)

    @torch.inference_mode()
    def candidates(self, pixels_HWC: np.ndarray, template: Template, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The best ``count`` points [K, 2] of a picture of any size, and their scores [K], best first."""
        height, width = pixels_HWC.shape[:2]
        even = _crop(pixels_HWC, (0, 0), (_up(width), _up(height)))
        joined = self._network(self._tensor(even), template)[0]
        xy, score = best_points(joined[:, : math.ceil(height / 2), : math.ceil(width / 2)], count)
        return xy[0].cpu().numpy().astype(float), score[0].cpu().numpy().astype(float)

    def _tensor(self, pixels_HWC: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(pixels_HWC.copy()).to(self._device)
        return pixels.permute(2, 0, 1)[None].to(self._dtype).div_(255).contiguous(memory_format=torch.channels_last)


class SearchTracker:
    """Opens sessions of one search network on one device."""

    stride, lead = 1, None  # what is looked for is learned in the prompt's frame
    step_s = None
    wants_background = False

    def __init__(self, model: Model, *, device: torch.device, searching: Searching | None = None) -> None:
        self.searcher = Searcher(model, device=device)
        self.config = searching or Searching()

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """The whole frame at about the network's area."""
        return Viewport.fit(source_wh_px, self.searcher.config.input_wh)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "SearchSession":
        """A session; ConfigError without a prompt."""
        told = prompt if isinstance(prompt, Prompt) else next(iter(prompt or ()), None)
        if told is None:
            raise ConfigError("a search network needs a prompt: the frame and box of the target")
        if isinstance(prompt, Sequence) and len(prompt) > 1:
            raise ConfigError("a search network takes one prompt", f"{len(prompt)} prompts")
        return SearchSession(self, told)


class SearchSession:
    """Finds one target in every frame from its prompt on; frames before the prompt are absent."""

    def __init__(self, tracker: SearchTracker, prompt: Prompt) -> None:
        self._tracker, self._prompt = tracker, prompt
        self._template: Template | None = None

    def push(self, batch: FrameBatch) -> Trajectory:
        """Rows of these frames, all final. ConfigError if the prompt's frame was not pushed first."""
        n = len(batch)
        box = self._prompt.box
        xy_px, score = np.full((n, 2), np.nan, np.float32), np.zeros(n, np.float32)
        for i, (frame, pixels) in enumerate(zip(batch.frame, batch.pixels, strict=True)):
            if frame < self._prompt.frame:
                continue
            if frame == self._prompt.frame:
                check_box(box, batch.viewport.source_wh_px, self._prompt.frame)
                self._template = self._tracker.searcher.template(pixels, _to_network(box, batch.viewport))
                xy_px[i], score[i] = (box.cx_px, box.cy_px), 1.0
                continue
            if self._template is None:
                raise ConfigError("the frame of the prompt was not pushed", self._prompt.frame)
            found, scores = self._tracker.searcher.candidates(pixels, self._template, 1)
            score[i] = scores[0]
            if scores[0] >= self._tracker.config.threshold:
                xy_px[i] = batch.viewport.to_source(found[0])
        wh_px = np.where(np.isnan(xy_px), np.nan, np.array([box.w_px, box.h_px])).astype(np.float32)
        provenance = np.full(n, Provenance.TRACKED.value, object)
        return Trajectory(batch.frame, batch.pts_s, xy_px, score, provenance=provenance, wh_px=wh_px)

    def finish(self) -> Trajectory:
        """Nothing is left: every row was final when it was pushed."""
        return Trajectory.empty()

    def provisional(self) -> Trajectory:
        """No row waits."""
        return Trajectory.empty()


@dataclass(frozen=True)
class TrajectoryPrior:
    """Where a lost target is likely by how it moved; px are those of the pictures."""

    xy_px: np.ndarray
    """[2]: its place if it went on as it did."""
    sigma_px: float
    """How far it may be off."""

    FLOOR = -4.0
    """Log weight of the most unlikely place: a clear match far away beats a doubtful one nearby."""

    def log_weight(self, xy_px: np.ndarray) -> np.ndarray:
        """[K] for places [K, 2]: a Gaussian around the expected place, and the floor far from it."""
        distance = np.linalg.norm(xy_px - self.xy_px, axis=-1)
        return np.maximum(-0.5 * (distance / self.sigma_px) ** 2, self.FLOOR)


@dataclass(frozen=True)
class Found:
    """Where a lost target may be, best first after weighing."""

    xy_px: np.ndarray
    """[K, 2]."""
    score: np.ndarray
    """[K]: the network's own, without the prior."""


class Redetector:
    """Finds again what a local tracker lost. Learn the target once, then ask in any later frame.

    Pictures are whole frames at their source's size. Where a prior names a place that fits into the network's input
    unscaled, only that part is searched, at full resolution: a tiny target is then not shrunk with its frame.
    """

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._templates: dict[bool, Template] = {}

    def learn(self, pixels_HWC: np.ndarray, box: Box) -> None:
        """Take the target's template from a frame in which it is known."""
        viewport = self._viewport(pixels_HWC)
        whole = np.array([box.cx_px, box.cy_px, box.w_px, box.h_px])
        scaled = _to_network(box, viewport)
        self._templates = {
            True: self._searcher.template(pixels_HWC, whole),
            False: self._searcher.template(_resized(pixels_HWC, viewport), scaled),
        }

    def candidates(self, pixels_HWC: np.ndarray, prior: TrajectoryPrior | None = None, *, count: int = 4) -> Found:
        """Places of the target in a frame, weighed by the prior. ConfigError before ``learn``."""
        if not self._templates:
            raise ConfigError("no target was learned", remedy="call learn() with a frame and a box first")
        window = None if prior is None else self._window(pixels_HWC, prior)
        if window is not None:
            left, top, width, height = window
            part = pixels_HWC[top : top + height, left : left + width]
            xy_px, score = self._searcher.candidates(part, self._templates[True], count)
            xy_px = xy_px + np.array([left, top])
        else:
            viewport = self._viewport(pixels_HWC)
            xy_net, score = self._searcher.candidates(_resized(pixels_HWC, viewport), self._templates[False], count)
            xy_px = viewport.to_source(xy_net)
        weight = np.zeros(len(score)) if prior is None else prior.log_weight(xy_px)
        order = np.argsort(-(np.log(np.clip(score, 1e-6, 1)) + weight), kind="stable")
        return Found(xy_px[order], score[order])

    def _viewport(self, pixels_HWC: np.ndarray) -> Viewport:
        return Viewport.fit((pixels_HWC.shape[1], pixels_HWC.shape[0]), self._searcher.config.input_wh)

    def _window(self, pixels_HWC: np.ndarray, prior: TrajectoryPrior) -> tuple[int, int, int, int] | None:
        """Left, top, width, height of the part within three sigma, if the network can see it unscaled."""
        height, width = pixels_HWC.shape[:2]
        wide, high = (min(side, n) for side, n in zip(self._searcher.config.input_wh, (width, height), strict=True))
        reach = 3 * prior.sigma_px
        if 2 * reach > min(wide, high):
            return None
        side = min(_up(math.ceil(2 * reach) + 32), wide, high)
        left = int(np.clip(round(float(prior.xy_px[0])) - side // 2, 0, width - side))
        top = int(np.clip(round(float(prior.xy_px[1])) - side // 2, 0, height - side))
        return left, top, side, side


class SearchCandidates:
    """A search network's places while an object is lost, by what its prompt shows."""

    AFTER = 2
    """Frames without the object before whole frames are searched."""

    def __init__(self, searcher: Searcher) -> None:
        self._redetector = Redetector(searcher)

    def begin(self, picture: Picture, box: Box) -> float:
        """See Candidates."""
        self._redetector.learn(picture.pixels, box)
        return 1.0

    def propose(self, picture: Picture, expected: Expected, hints_px: np.ndarray) -> Places:
        """See Candidates."""
        if expected.unseen < self.AFTER:
            return Places.none()
        found = self._redetector.candidates(picture.pixels, TrajectoryPrior(expected.xy_px, expected.sigma_px))
        return Places.scored(found.xy_px, found.score, threshold=Searching().threshold)

    def confirm(self, picture: Picture, xy_px: np.ndarray) -> None:
        """See Candidates: what it looks for stays the prompt's."""


def _to_network(box: Box, viewport: Viewport) -> np.ndarray:
    """[4]: centre x, y, width, height in network px."""
    return np.concatenate(
        [viewport.to_network(np.array([box.cx_px, box.cy_px])), np.array([box.w_px, box.h_px]) * viewport.scale]
    )


def _resized(pixels_HWC: np.ndarray, viewport: Viewport) -> np.ndarray:
    if viewport.source_wh_px == viewport.network_wh_px:
        return pixels_HWC
    shrinks = viewport.scale.max() < 1
    kernel = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels_HWC).resize(viewport.network_wh_px, kernel))


def _crop(pixels_HWC: np.ndarray, corner: tuple[int, int], wh: tuple[int, int]) -> np.ndarray:
    """Part of a picture from ``corner``; beyond the edge its rim is repeated."""
    columns = np.clip(np.arange(corner[0], corner[0] + wh[0]), 0, pixels_HWC.shape[1] - 1)
    rows = np.clip(np.arange(corner[1], corner[1] + wh[1]), 0, pixels_HWC.shape[0] - 1)
    return pixels_HWC[rows[:, None], columns]


def _up(side: int) -> int:
    """The next multiple of 16."""
    return -(-side // 16) * 16

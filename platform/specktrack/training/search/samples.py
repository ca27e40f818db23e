"""Templates and frames to search in: every target size as often as any other, and what only looks like the target.

Sample number i of a run is a pure function of (seed, i), as in ``sampling``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from specktrack.models.search.global_search import SearchBatch
from specktrack.training.course import Tensors
from specktrack.training.frame_cache import CachedVideo
from specktrack.training.search.config import SearchSamplingConfig
from specktrack.training.search.sprites import Sprite, cut_sprite, draw_sprite, place, recoloured

MOST_ZOOM = 3.0
"""Of a video's own object on the way to the size whose turn it is: farther, it shows its pixels or its frame's rim."""


@dataclass(frozen=True)
class SearchSample:
    """One template and one picture, uint8 [H, W, 3], with the target's box in each: centre x, y, width, height."""

    template: np.ndarray
    template_box: np.ndarray
    picture: np.ndarray
    box: np.ndarray
    """float32 [4]; NaN where the target is not there."""


class SearchSampler:
    """Draws samples from cached videos."""

    def __init__(self, videos: list[CachedVideo], *, template_px: int, seed: int, config: SearchSamplingConfig) -> None:
        self.config, self.seed, self._template_px = config, seed, template_px
        self._videos = videos
        self._boxes = [_boxes_net(video) for video in videos]
        self._owned = [i for i, boxes in enumerate(self._boxes) if (~np.isnan(boxes).any(axis=1)).sum() > 1]

    def sample(self, number: int) -> SearchSample:
        """Sample ``number`` of the run."""
        random = np.random.default_rng([self.seed, number])
        if self._owned and random.random() < self.config.own_objects:
            return self._own(random, number)
        return self._drawn(random, number)

    def read(self, numbers: range) -> Tensors:
        """Samples as tensors, pictures uint8 [B, H, W, 3]."""
        samples = [self.sample(number) for number in numbers]
        return {
            "templates": torch.from_numpy(np.stack([sample.template for sample in samples])),
            "template_boxes": _boxes([sample.template_box for sample in samples]),
            "frames": torch.from_numpy(np.stack([sample.picture for sample in samples])),
            "boxes": _boxes([sample.box for sample in samples]),
        }

    def _size(self, random: np.random.Generator, number: int) -> float:
        """Side of the target, network px: the buckets take turns."""
        bucket = number % (len(self.config.sizes_net) - 1)
        return float(np.exp(random.uniform(*np.log(self.config.sizes_net[bucket : bucket + 2]))))

    def _own(self, random: np.random.Generator, number: int) -> SearchSample:
        """A labelled object of a video, in two of its frames, zoomed to the size whose turn it is."""
        chosen = self._owned[random.integers(len(self._owned))]
        boxes = self._boxes[chosen]
        seen = np.flatnonzero(~np.isnan(boxes).any(axis=1))
        first = random.choice(seen)
        near = seen[np.abs(seen - first) <= self.config.most_gap]
        second = random.choice(near)
        zoom = self._size(random, number) / float(np.sqrt(boxes[first][2:].prod()))
        zoom = float(np.clip(zoom, 1 / MOST_ZOOM, MOST_ZOOM))
        side = self._template_px
        template, template_box = self._around(random, chosen, first, (side, side), zoom, spread=0.15)
        picture, box = self._around(random, chosen, second, self.config.crop_wh, zoom, spread=0.8)
        return SearchSample(template, template_box, picture, box)

    def _around(
        self, random: np.random.Generator, video: int, frame: int, wh: tuple[int, int], zoom: float, *, spread: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """A crop of ``wh`` that shows the frame's labelled object ``zoom`` times as large, and the box in it."""
        box = self._boxes[video][frame]
        width, height = (max(1, round(side / zoom)) for side in wh)
        corner = _corner(random, box, (width, height), spread)
        pixels = self._cut(video, frame, corner, (width, height))
        scale = np.array(wh) / (width, height)
        if (width, height) != wh:
            pixels = np.asarray(Image.fromarray(pixels).resize(wh, Image.Resampling.BILINEAR))
        return pixels, np.concatenate([(box[:2] - corner + 0.5) * scale - 0.5, box[2:] * scale]).astype(np.float32)

    def _drawn(self, random: np.random.Generator, number: int) -> SearchSample:
        """A sprite set down in two frames of a video, among others."""
        config = self.config
        video = int(random.integers(len(self._videos)))
        frames = len(self._videos[video].pixels)
        first = int(random.integers(frames))
        second = int(np.clip(first + random.integers(-config.most_gap, config.most_gap + 1), 0, frames - 1))
        side = self._template_px
        template = self._cut(video, first, self._anywhere(random, video, (side, side)), (side, side))
        picture = self._cut(video, second, self._anywhere(random, video, config.crop_wh), config.crop_wh)
        size = self._size(random, number)
        target, turn = self._sprite(random), random.uniform(-180, 180)
        middle = (side - 1) / 2 + random.uniform(-2, 2, 2)
        for _ in range(random.integers(0, 3)):  # beside the target
            angle, far = random.uniform(0, 2 * np.pi), random.uniform(1.2, 2.5) * max(size, 8)
            self._put(
                random,
                template,
                self._other(random, target),
                middle + far * np.array([np.cos(angle), np.sin(angle)]),
                size,
            )
        template_box = self._put(random, template, target, middle, size, turn=turn)
        others = [self._other(random, target) for _ in range(random.integers(0, config.distractors + 1))]
        room = np.array(config.crop_wh)
        for other in others:
            self._put(random, picture, other, random.uniform(0, room - 1), size * random.uniform(0.7, 1.4))
        box = np.full(4, np.nan, np.float32)
        if random.random() >= config.absent:
            edge = min(size / 2 + 1, min(config.crop_wh) / 3)
            box = self._put(
                random, picture, target, random.uniform(edge, room - 1 - edge), size * random.uniform(0.85, 1.18),
                turn=turn + random.uniform(-20, 20),
            )  # fmt: skip
        return SearchSample(template, template_box, picture, box)

    def _sprite(self, random: np.random.Generator) -> Sprite:
        if random.random() < 0.5:
            return draw_sprite(random)
        pixels = self._videos[random.integers(len(self._videos))].pixels
        return cut_sprite(random, np.asarray(pixels[int(random.integers(len(pixels)))]))

    def _other(self, random: np.random.Generator, target: Sprite) -> Sprite:
        return recoloured(random, target) if random.random() < 0.3 else self._sprite(random)

    def _put(
        self, random: np.random.Generator, picture: np.ndarray, sprite: Sprite, xy: np.ndarray, size: float,
        *, turn: float | None = None,
    ) -> np.ndarray:  # fmt: skip
        blur = random.uniform(0.2, 0.6) + (random.uniform(0, 0.1) * size if random.random() < 0.3 else 0)
        turn = random.uniform(-180, 180) if turn is None else turn
        at = (float(xy[0]), float(xy[1]))
        return place(picture, sprite, at, size, turn_deg=turn, gain=random.uniform(0.85, 1.15), blur=blur)

    def _anywhere(self, random: np.random.Generator, video: int, wh: tuple[int, int]) -> tuple[int, int]:
        height, width = self._videos[video].pixels.shape[1:3]
        return int(random.integers(0, max(1, width - wh[0] + 1))), int(random.integers(0, max(1, height - wh[1] + 1)))

    def _cut(self, video: int, frame: int, corner: tuple[int, int], wh: tuple[int, int]) -> np.ndarray:
        """A copy of part of a frame; beyond the frame's edge its rim is repeated."""
        pixels = np.asarray(self._videos[video].pixels[frame])
        columns = np.clip(np.arange(corner[0], corner[0] + wh[0]), 0, pixels.shape[1] - 1)
        rows = np.clip(np.arange(corner[1], corner[1] + wh[1]), 0, pixels.shape[0] - 1)
        return pixels[rows[:, None], columns]


def as_batch(read: Tensors, device: torch.device) -> SearchBatch:
    """A sampler's data on the device."""

    def pictures(name: str) -> torch.Tensor:
        return read[name].to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255

    return SearchBatch(
        templates_BCHW=pictures("templates"),
        template_boxes=read["template_boxes"].to(device),
        frames_BCHW=pictures("frames"),
        boxes=read["boxes"].to(device),
    )


def _boxes(stack: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(stack).astype(np.float32))


def boxes_px(video: CachedVideo) -> np.ndarray:
    """float32 [N, 4] as cx, cy, w, h in source px; NaN where the label has no position or no size."""
    boxes = np.full((len(video.pixels), 4), np.nan, np.float32)
    boxes[video.label.frame] = np.hstack([video.label.xy_px, video.label.wh_px])
    boxes[np.isnan(boxes).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)] = np.nan
    return boxes


def _boxes_net(video: CachedVideo) -> np.ndarray:
    """The same in network px."""
    boxes = boxes_px(video)
    return np.hstack([video.viewport.to_network(boxes[:, :2]), boxes[:, 2:] * video.viewport.scale]).astype(np.float32)


def _corner(random: np.random.Generator, box: np.ndarray, wh: tuple[int, int], spread: float) -> tuple[int, int]:
    """Left top of a crop that holds the box's centre, off its middle by up to ``spread`` of the half crop."""
    shift = random.uniform(-spread, spread, 2) * np.array(wh) / 2
    x, y = np.round(box[:2] - np.array(wh) / 2 + shift).astype(int)
    return int(x), int(y)

"""Arbitrary things that move over arbitrary scenes, with their boxes: what a template tracker learns from.

The things are cut at random from frames of given videos (or painted), the scenes are other frames of them. Neither
needs labels. Most things are tiny, some are like their neighbours, and all change in size, light and direction.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFilter
from pydantic import Field

from specktrack.config import VerbConfig
from specktrack.datasets.dataset import DatasetCard, DatasetVideo, make_dataset, save_dataset
from specktrack.datasets.synthetic import generator
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import Clip, Provenance, VideoRef
from specktrack.storage import expand_sources, local_path, open_store, stat
from specktrack.storage.places import SourcePlace
from specktrack.video import probe, read_clip, write_video

FPS = 30.0
_OVERSAMPLED = 4
"""Things are drawn at that many times their resolution and averaged: a 3-px target has soft, truthful edges."""
_MASTER_PX = 96
_SCENES_KEPT, _SCENES_PAINTED = 16, 8
_SCENE_FRAMES = 14


class PatchesConfig(VerbConfig):
    """Which sequences are rendered."""

    verb: ClassVar[str] = "patches"

    sequences: int = Field(default=8, ge=1)
    """Number of sequences, each with its own target."""
    frames: int = Field(default=16, ge=2)
    """Frames of each sequence."""
    width_px: int = Field(default=320, ge=64, multiple_of=2)
    """Width of each picture; even, as H.264 wants it."""
    height_px: int = Field(default=240, ge=64, multiple_of=2)
    """Height of each picture; even."""
    size_px: tuple[float, float] = (4.0, 48.0)
    """Range of the square root of the target's area in the first frame; log-uniform."""
    distractors: int = Field(default=3, ge=0)
    """Maximum number of other moving objects, some of which look like the target."""
    sources: tuple[SourcePlace, ...] = ()
    """Videos to cut objects and scenes from; by default they are painted."""
    shape: Literal["any", "disk"] = "any"
    """Outlines of the objects: blobs, boxes, disks and bodies with limbs, or disks only."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random choices."""


def render_patches(config: PatchesConfig, index: int, scenes: list[np.ndarray]) -> tuple[list[np.ndarray], Trajectory]:
    """Frames uint8 [H, W, 3] and the target's boxes of sequence ``index``."""
    random = generator(config.seed, "patches", index)
    things = [_Thing.draw(random, config, scenes) for _ in range(1 + int(random.integers(config.distractors + 1)))]
    target = things[0]
    for i in range(1, len(things)):
        if random.random() < 0.5:  # one that looks alike
            things[i] = _Thing(target.texture, *_Thing.draw(random, config, scenes, size_px=target.size_px).motion)
    order = random.permutation(len(things))
    frames, boxes = [], []
    for t, background in enumerate(_background(random, config, scenes)):
        picture = background.astype(np.float32)
        for i in order:
            box = things[i].paint(picture, t)
            if i == 0:
                boxes.append(box)
        noise = random.normal(0, 2.0, picture.shape)
        frames.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
    x0, y0, x1, y1 = np.array(boxes).T
    count = len(frames)
    label = Trajectory(
        frame=np.arange(count),
        pts_s=np.arange(count) / FPS,
        xy_px=np.stack([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2], axis=1).astype(np.float32),
        score=np.full(count, np.nan, np.float32),
        provenance=np.full(count, Provenance.LABELLED.value, object),
        wh_px=np.stack([x1 - x0, y1 - y0], axis=1).astype(np.float32),
    )
    return frames, label


def write_patches(config: PatchesConfig, destination: str) -> DatasetCard:
    """Render a dataset of sequences into a folder; its card."""
    store = open_store(destination)
    folder = local_path(store.uri)
    if folder is None:
        raise ConfigError("sequences can only be rendered to a local folder", destination)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = load_scenes(config)
    videos, tables = [], []
    for index in range(config.sequences):
        frames, label = render_patches(config, index, scenes)
        key = f"patches-{index:05d}.mp4"
        write_video(folder / key, frames, fps=FPS, wh=(config.width_px, config.height_px))
        ref = stat(store.uri_of(key))
        videos.append(
            DatasetVideo(ref=ref, width_px=config.width_px, height_px=config.height_px, fps=FPS, frames=len(frames))
        )
        tables.append(label.to_rows(ref.uri))
    rows = pa.concat_tables(tables).unify_dictionaries()
    source = config.model_dump_json(exclude={"sources"})
    return save_dataset(make_dataset(rows, tuple(videos), name="patches", layout="synthetic", source=source), store)


def load_scenes(config: PatchesConfig) -> list[np.ndarray]:
    """Stretches of frames uint8 [N, H, W, 3] from the sources, and painted ones."""
    random = generator(config.seed, "scenes", 0)
    painted = [_painted(random, (config.width_px * 2, config.height_px * 2))[None] for _ in range(_SCENES_PAINTED)]
    refs = expand_sources(config.sources) if config.sources else []
    return painted + [_stretch(refs[i % len(refs)], random) for i in range(_SCENES_KEPT) if refs]


def _stretch(ref: VideoRef, random: np.random.Generator) -> np.ndarray:
    info = probe(ref)
    length = min(_SCENE_FRAMES, info.frames)
    start = int(random.integers(info.frames - length + 1))
    with read_clip(Clip(video=ref, start=start, stop=start + length), info=info) as reader:
        return np.concatenate([batch.pixels for batch in reader])


def _painted(random: np.random.Generator, wh_px: tuple[int, int]) -> np.ndarray:
    """Clouds of colour at all scales with hard shapes over them."""
    width, height = wh_px
    picture = np.zeros((height, width, 3), np.float32) + random.uniform(40, 200, 3)
    for cells in (2, 4, 8, 16, 32, 64):
        small = random.normal(0, 1, (cells, cells, 3)) @ (np.eye(3) * 0.4 + 0.6 / 3)
        planes = [
            np.asarray(Image.fromarray(small[..., c].astype(np.float32)).resize(wh_px, Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        picture += random.uniform(4, 60) / math.sqrt(cells) * np.stack(planes, axis=-1) * 2
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(10, 60))):
        side = float(np.exp(random.uniform(np.log(3), np.log(width / 4))))
        x, y = random.uniform(0, width), random.uniform(0, height)
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape([x, y, x + side, y + side * random.uniform(0.3, 3)], fill=colour)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.5))))


def _background(random: np.random.Generator, config: PatchesConfig, scenes: list[np.ndarray]) -> Iterator[np.ndarray]:
    """A window that pans over a stretch of frames, played at its own speed."""
    scene = scenes[random.integers(len(scenes))]
    height, width = scene.shape[1:3]
    most = min(width / config.width_px, height / config.height_px)
    zoom = float(np.exp(random.uniform(np.log(min(1.0, most)), np.log(most))))
    w, h = config.width_px * zoom, config.height_px * zoom
    path = _walk(random, config.frames, speed=random.choice([0.0, 1.0, 4.0]) * zoom)
    x = np.clip(random.uniform(0, width - w) + path[:, 0], 0, width - w)
    y = np.clip(random.uniform(0, height - h) + path[:, 1], 0, height - h)
    start = int(random.integers(max(1, len(scene) - config.frames + 1)))
    for t in range(config.frames):
        image = Image.fromarray(scene[min(start + t, len(scene) - 1)])
        box = (x[t], y[t], x[t] + w, y[t] + h)
        yield np.asarray(image.resize((config.width_px, config.height_px), Image.Resampling.BILINEAR, box=box))


def _walk(random: np.random.Generator, frames: int, *, speed: float) -> np.ndarray:
    """A smooth random path [N, 2] from the origin: velocity keeps its direction for a while."""
    velocity = random.normal(0, speed, 2)
    path = np.zeros((frames, 2))
    for t in range(1, frames):
        velocity = 0.92 * velocity + random.normal(0, 0.35 * speed, 2)
        path[t] = path[t - 1] + velocity
    return path


@dataclass(frozen=True)
class _Thing:
    """A texture with a soft outline and its way through the sequence."""

    texture: np.ndarray
    """float32 [96, 96, 4]: RGB in 0..255 and opacity."""
    xy_px: np.ndarray
    size_px: float
    scale_wh: np.ndarray
    """float [N, 2]: sides relative to ``size_px``."""
    angle: np.ndarray
    light: np.ndarray

    @property
    def motion(self) -> tuple[np.ndarray, float, np.ndarray, np.ndarray, np.ndarray]:
        """All but the texture."""
        return self.xy_px, self.size_px, self.scale_wh, self.angle, self.light

    @classmethod
    def draw(
        cls, random: np.random.Generator, config: PatchesConfig, scenes: list[np.ndarray], size_px: float | None = None
    ) -> "_Thing":
        """Any texture, any outline, any path."""
        low, high = (min(side, config.width_px / 3, config.height_px / 3) for side in config.size_px)
        size = size_px or float(np.exp(random.uniform(np.log(low), np.log(high))))
        n = config.frames
        aspect = float(np.exp(random.normal(0, 0.5)))
        growth = np.exp(np.cumsum(random.normal(0, 0.015, n)) + random.normal(0, 0.02) * np.arange(n))
        wobble = np.exp(np.cumsum(random.normal(0, 0.02, n)))
        scale = np.stack([growth * wobble * math.sqrt(aspect), growth / wobble / math.sqrt(aspect)], axis=1).clip(
            0.4, 2.5
        )
        speed = size * float(np.exp(random.uniform(np.log(0.02), np.log(0.5))))
        path = _walk(random, n, speed=min(speed, 10.0))
        start = random.uniform((size, size), (config.width_px - size, config.height_px - size))
        span = np.array([config.width_px, config.height_px]) - 1.0
        xy = start + path
        xy = span - np.abs((xy % (2 * span)) - span)  # mirrored at the edges
        turning = random.choice([0.0, 0.02, 0.08])
        angle = random.normal(0, 0.3) + np.cumsum(random.normal(0, turning, n))
        light = np.exp(np.cumsum(random.normal(0, 0.02, n)))
        return cls(_texture(random, config, scenes), xy, size, scale, angle, light)

    def paint(self, picture: np.ndarray, t: int) -> tuple[float, float, float, float]:
        """Draw onto the picture; the box of what is drawn as x0, y0, x1, y1 (edges, source px)."""
        w, h = self.size_px * self.scale_wh[t]
        cos, sin = math.cos(self.angle[t]), math.sin(self.angle[t])
        reach = math.ceil(math.hypot(w, h) / 2) + 1
        x0, y0 = (math.floor(c) - reach for c in self.xy_px[t])
        side = 2 * reach + 1
        n, k = side * _OVERSAMPLED, 1 / _OVERSAMPLED
        cx, cy = self.xy_px[t, 0] + 0.5 - x0, self.xy_px[t, 1] + 0.5 - y0
        ys, xs = (np.mgrid[:n, :n] + 0.5) * k
        u = ((xs - cx) * cos + (ys - cy) * sin) / w + 0.5
        v = ((ys - cy) * cos - (xs - cx) * sin) / h + 0.5
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        ui, vi = (np.clip(c * _MASTER_PX, 0, _MASTER_PX - 1).astype(int) for c in (u, v))
        drawn = np.where(inside[..., None], self.texture[vi, ui], 0)
        opaque = drawn[..., 3] > 0.5
        cols, rows = np.flatnonzero(opaque.any(axis=0)), np.flatnonzero(opaque.any(axis=1))
        drawn = drawn.reshape(side, _OVERSAMPLED, side, _OVERSAMPLED, 4)
        opacity = drawn[..., 3].mean(axis=(1, 3))
        colour = (drawn[..., :3] * drawn[..., 3:]).mean(axis=(1, 3)) * self.light[t]
        height, width = picture.shape[:2]
        top, left, bottom, right = max(0, y0), max(0, x0), min(height, y0 + side), min(width, x0 + side)
        part = (slice(top - y0, bottom - y0), slice(left - x0, right - x0))
        under = picture[top:bottom, left:right]
        under *= 1 - opacity[part][..., None]
        under += colour[part]
        return x0 + cols[0] * k, y0 + rows[0] * k, x0 + (cols[-1] + 1) * k, y0 + (rows[-1] + 1) * k


def _texture(random: np.random.Generator, config: PatchesConfig, scenes: list[np.ndarray]) -> np.ndarray:
    """A piece of a scene with an outline: float32 [96, 96, 4]."""
    scene = scenes[random.integers(len(scenes))]
    frame = scene[random.integers(len(scene))]
    height, width = frame.shape[:2]
    side = float(np.exp(random.uniform(np.log(6), np.log(min(width, height) / 3))))
    x, y = random.uniform(0, width - side), random.uniform(0, height - side)
    size = (_MASTER_PX, _MASTER_PX)
    piece = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
    colours = np.asarray(piece, np.float32)
    mean = colours.mean(axis=(0, 1))
    colours = (mean + (colours - mean) * random.uniform(0.7, 1.8)) * random.uniform(0.6, 1.4, 3)
    outline = Image.new("L", (2 * _MASTER_PX, 2 * _MASTER_PX))
    draw = ImageDraw.Draw(outline)
    span = (4, 4, 2 * _MASTER_PX - 5, 2 * _MASTER_PX - 5)
    kind = "disk" if config.shape == "disk" else random.choice(["disk", "box", "blob", "cross"])
    if kind == "disk":
        draw.ellipse(span, fill=255)
    elif kind == "box":
        draw.rounded_rectangle(span, radius=int(random.integers(0, _MASTER_PX)), fill=255)
    elif kind == "cross":  # a body with limbs
        draw.ellipse((70, 4, 122, 188), fill=255)
        draw.line([(6, int(random.integers(20, 170))), (186, int(random.integers(20, 170)))], fill=255, width=26)
    else:
        turns = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(5, 12))))
        radius = random.uniform(0.55, 1.0, len(turns)) * (_MASTER_PX - 4)
        draw.polygon(
            [(_MASTER_PX + r * math.cos(a), _MASTER_PX + r * math.sin(a)) for a, r in zip(turns, radius, strict=True)],
            fill=255,
        )
    soft = outline.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(random.uniform(0.5, 3)))
    opacity = np.asarray(soft, np.float32) / 255
    if opacity.max() <= 0.6:
        opacity = opacity / opacity.max()
    return np.dstack([colours.clip(0, 255), opacity]).astype(np.float32)

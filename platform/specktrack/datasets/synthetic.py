"""Rendered video with exact labels: tiny balls in textured halls, for training, tests and demonstrations.

A rally is simulated in metres (flight.py), filmed by moving cameras (scenery.py), exposed over a shutter time and
given noise. Truth is the ball's centre at mid-exposure. Every random draw comes from a generator named by
(seed, purpose, index), so one video is the same whatever is rendered beside it.
"""

import functools
import hashlib
import itertools
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from specktrack.config import VerbConfig
from specktrack.datasets import flight, scenery
from specktrack.datasets.dataset import DatasetCard, DatasetVideo, make_dataset, save_dataset
from specktrack.frames import Trajectory
from specktrack.schema import EVENTS, Provenance, VideoRef, Visibility
from specktrack.storage import open_store, stat
from specktrack.video import write_video

_SHUTTLE = ((0.85, 0.45, 0.8), (0.15, 0.6, 0.5), (-0.45, 0.85, 0.5))
"""Discs (offset along the flight in radii, radius, opacity) of cork and feathers; their common centroid is 0."""
_ROUND = ((0.0, 1.0, 1.0),)
_SEGMENTS = 4
"""Straight pieces into which one exposure is cut: enough for a hit or bounce inside it."""


class SynthConfig(VerbConfig):
    """Rendered videos with exact labels."""

    verb: ClassVar[str] = "synth"

    videos: int = Field(default=8, ge=1)
    """Number of videos, each in its own hall."""
    frames: int = Field(default=120, ge=1)
    """Frames of each video."""
    width_px: int = Field(default=640, ge=64, multiple_of=2)
    """Width of each picture; even, as H.264 wants it."""
    height_px: int = Field(default=360, ge=48, multiple_of=2)
    """Height of each picture; even."""
    fps: float = Field(default=30.0, gt=0)
    """Frames per second."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random choices; the same seed gives the same videos."""
    cuts_per_minute: float = Field(default=6.0, ge=0)
    """Hard cuts to another camera, two thirds of them to close-ups without the ball."""
    noise: float = Field(default=1.0, ge=0)
    """Strength of sensor noise and flicker; 0 renders clean pictures."""
    sport: Literal["badminton", "tennis", "volleyball", "pickleball"] | None = None
    """Court, motion and object; by default, a sport is drawn for each video."""
    workers: int = Field(default=1, ge=1)
    """Number of processes that render videos in parallel."""


@dataclass(frozen=True)
class RenderedFrame:
    """One picture and the truth about the ball in it."""

    pixels: np.ndarray
    """uint8 [H, W, 3], RGB."""
    xy_px: np.ndarray
    """float64 [2], centre at mid-exposure; NaN where absent."""
    visibility: Visibility
    """occluded: half of it or more is behind people (the position stays); blurred: a streak or hardly any contrast."""
    diameter_px: float
    streak_px: float
    """Length of the way of the centre during the exposure."""


@dataclass(frozen=True)
class _View:
    """One camera with its plate and its pan, zoom and shake."""

    camera: scenery.Camera
    plate: Image.Image
    margin_px: int
    sways: np.ndarray
    """float64 [K, 4]: amplitude x and y in px, angular frequency, phase."""
    zooms: np.ndarray
    """float64 [3]: amplitude, angular frequency, phase of the zoom above 1."""
    live: bool
    """The ball is in the picture."""

    def motion(self, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shift [N, 2] px and zoom [N] of the picture at times [N]."""
        wave = np.sin(np.asarray(time_s)[:, None] * self.sways[:, 2] + self.sways[:, 3])
        amplitude, rate, phase = self.zooms
        return wave @ self.sways[:, :2], 1 + amplitude * (1 + np.sin(np.asarray(time_s) * rate + phase))

    def project(self, xyz_m: np.ndarray, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points [N, 3] at times [N] to picture px [N, 2] and px per metre [N]."""
        xy_px, px_per_m = self.camera.project(xyz_m)
        shift, zoom = self.motion(time_s)
        centre = np.array(self.camera.centre_px)
        return (xy_px - centre) * zoom[:, None] + centre + shift, px_per_m * zoom

    def background(self, wh_px: tuple[int, int], time_s: float) -> np.ndarray:
        """The plate as this view shows it at ``time_s``: uint8 [H, W, 3], writable."""
        shift, zoom = self.motion(np.array([time_s]))
        if not shift.any() and zoom[0] == 1:
            box = (self.margin_px, self.margin_px, self.margin_px + wh_px[0], self.margin_px + wh_px[1])
            return np.array(self.plate.crop(box))
        edge = np.array(self.camera.centre_px) + 0.5  # PIL counts from pixel edges
        x0, y0 = edge - (edge + shift[0]) / zoom[0] + self.margin_px
        scale = 1 / zoom[0]
        moved = self.plate.transform(
            wh_px, Image.Transform.AFFINE, (scale, 0, x0, 0, scale, y0), Image.Resampling.BILINEAR
        )
        return np.array(moved)


@dataclass(frozen=True)
class _Ball:
    """How the ball of one video looks."""

    colour: np.ndarray
    """float32 [3]."""
    opacity: float
    growth: float
    """Factor on the physical size."""
    soft: float
    """Weight of each neighbour in the optical blur, 0 sharp to 0.25."""
    parts: tuple[tuple[float, float, float], ...]


def generator(seed: int, purpose: str, index: int) -> np.random.Generator:
    """The random generator of that name: independent of all others, the same at every call."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def render_clip(config: SynthConfig, index: int, *, with_ball: bool = True) -> Iterator[RenderedFrame]:
    """Render video ``index`` frame by frame; ``with_ball=False`` leaves the ball out of an otherwise equal video."""
    scene = _Scene(config, index)
    for frame in range(config.frames):
        yield scene.render(frame, with_ball=with_ball)


def trajectory(config: SynthConfig, rendered: list[RenderedFrame]) -> Trajectory:
    """The labels of a rendered video; the ball's diameter is its box."""
    xy_px = np.array([frame.xy_px for frame in rendered], np.float32)
    diameter = np.array([frame.diameter_px for frame in rendered], np.float32)
    diameter[np.isnan(xy_px[:, 0])] = np.nan
    number = np.arange(len(rendered))
    return Trajectory(
        frame=number,
        pts_s=number / config.fps,
        xy_px=xy_px,
        score=np.full(len(rendered), np.nan, np.float32),
        visibility=np.array([frame.visibility.value for frame in rendered], object),
        provenance=np.full(len(rendered), Provenance.LABELLED.value, object),
        wh_px=np.stack([diameter, diameter], axis=1),
    )


def events_of(config: SynthConfig, index: int, track: Trajectory, uri: str) -> pa.Table:
    """The exact EVENTS of rendered video ``index``, whose labels are ``track``.

    An event that no picture shows (the ball is absent in the nearest frame) has no x and y.
    """
    scene = _Scene(config, index)
    rows = []
    for happening in scene.rally.happenings:
        frame = round(happening.time_s * config.fps)
        if frame >= config.frames:
            continue
        time_s = np.array([happening.time_s])
        xyz_m = scene.rally.ball(time_s)
        seen = bool(track.present[frame])
        x, y = scene.view_at(happening.time_s).project(xyz_m, time_s)[0][0].tolist() if seen else (None, None)
        metres = dict(zip(("x_m", "y_m", "z_m"), map(_or_none, xyz_m[0].tolist()), strict=True))
        place = {"video": uri, "object": 0, "frame": frame, "time_s": happening.time_s, "x": x, "y": y, **metres}
        rows.append({**dict.fromkeys(EVENTS.names), **place, "event": happening.event.value, "rally": happening.rally})
    return pa.Table.from_pylist(rows, schema=EVENTS)


def court_corners(config: SynthConfig, index: int, frame: int) -> np.ndarray:
    """Where the main camera of rendered video ``index`` sees the court's corners in a frame, float64 [4, 2] px.

    The near left one, then around the court: near right, far right, far left.
    """
    scene = _Scene(config, index)
    width, length = scene.rally.sport.court_wl_m
    corners_m = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [width / 2, length / 2, 0]
    return scene.view_at(0.0).project(corners_m, np.full(4, frame / config.fps))[0]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def write_archive(config: SynthConfig, destination: str) -> DatasetCard:
    """Render all videos to ``destination`` (a folder or an S3 prefix) as H.264 files with their labels: a dataset."""
    store = open_store(str(destination))
    render = functools.partial(write_clip, config, store.uri)
    if config.workers == 1:
        drawn = list(map(render, range(config.videos)))
    else:
        with ProcessPoolExecutor(config.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            drawn = list(pool.map(render, range(config.videos)))
    refs = [stat(store.uri_of(_video_key(index))) for index in range(config.videos)]
    size = {"width_px": config.width_px, "height_px": config.height_px}
    dataset = make_dataset(
        pa.concat_tables(
            [track.to_rows(ref.uri) for (track, _), ref in zip(drawn, refs, strict=True)]
        ).combine_chunks(),
        tuple(DatasetVideo(ref=ref, **size, fps=config.fps, frames=config.frames) for ref in refs),
        name=VideoRef(uri=store.uri, etag="", size_bytes=0).name,
        layout="synthetic",
        source=config.model_dump_json(exclude={"workers"}),
        notes=("rendered: labels are exact",),
        events=pa.concat_tables([events for _, events in drawn]).combine_chunks(),
    )
    return save_dataset(dataset, store)


def write_clip(config: SynthConfig, destination: str, index: int) -> tuple[Trajectory, pa.Table]:
    """Render video ``index`` to its place below ``destination``; its labels and its events."""
    rendered: list[RenderedFrame] = []

    def pixels() -> Iterator[np.ndarray]:
        for frame in render_clip(config, index):
            rendered.append(replace(frame, pixels=frame.pixels[:0]))  # keep the truth, not the pictures
            yield frame.pixels

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        write_video(path, pixels(), fps=config.fps, wh=(config.width_px, config.height_px))
        store = open_store(destination)
        store.put_file(_video_key(index), path)
    track = trajectory(config, rendered)
    return track, events_of(config, index, track, store.uri_of(_video_key(index)))


def _video_key(index: int) -> str:
    return f"videos/{index:04d}.mp4"


class _Scene:
    """Everything of one video that is drawn before its first frame."""

    def __init__(self, config: SynthConfig, index: int) -> None:
        self._config, self._index = config, index
        self._wh_px = (config.width_px, config.height_px)
        random = generator(config.seed, "play", index)
        names = [sport.name for sport in flight.SPORTS]
        chosen = names.index(config.sport) if config.sport else random.choice(len(names), p=[0.45, 0.25, 0.15, 0.15])
        self._sport = flight.SPORTS[int(chosen)]
        doubles = bool(random.random() < 0.35)
        duration_s = config.frames / config.fps
        self.rally = flight.play(random, self._sport, duration_s=duration_s, doubles=doubles)
        look = generator(config.seed, "look", index)
        self._palette = int(look.integers(len(scenery.PALETTES)))
        self._clothes = [scenery.Clothes.draw(look) for _ in self.rally.players]
        self._paces = look.uniform(0, 6, len(self.rally.players))
        self._ball = _draw_ball(look, self._sport, self._palette)
        self._shutter_s = float(look.uniform(0.1, 0.7)) / config.fps
        self._views, self._shots = self._cut(generator(config.seed, "cuts", index), duration_s)
        self._noise, self._flicker = _draw_noise(look, self._wh_px, config.noise)
        self._scoreboard = _draw_scoreboard(look, self._wh_px)
        self._strays = look.uniform(0, 1, (int(look.integers(0, 4)), 8))

    def _cut(self, random: np.random.Generator, duration_s: float) -> tuple[list[_View], list[tuple[float, int]]]:
        """The views and the shots as (start in seconds, index of the view); view 0 is the main camera."""
        views, shots = [self._view(random, live=True)], [(0.0, 0)]
        rate = self._config.cuts_per_minute / 60
        time_s = random.exponential(1 / rate) if rate else duration_s
        while time_s < duration_s:
            if len(views) < 3:
                views.append(self._view(random, live=bool(random.random() < 1 / 3)))
                view = len(views) - 1
            else:
                view = int(random.integers(1, len(views)))
            back_s = time_s + random.uniform(0.4, 2.0)
            shots += [(time_s, view), (back_s, 0)]
            time_s = back_s + 0.5 + random.exponential(1 / rate)
        return views, shots

    def _view(self, random: np.random.Generator, *, live: bool) -> _View:
        """A camera, its plate with officials standing about, and its motion."""
        aim = scenery.broadcast_camera if live else scenery.close_camera
        camera = aim(random, self._sport, self._wh_px)
        margin_px = round(0.12 * self._wh_px[1])
        plate = scenery.paint_plate(random, camera, self._sport, self._palette, self._wh_px, margin_px)
        if live:
            plate = scenery.place_officials(random, plate, camera, self._sport, margin_px)
        sways, zooms = np.zeros((1, 4)), np.zeros(3)
        if random.random() < 0.6:
            pan = margin_px * random.uniform(0.05, 0.6, (3, 1)) * random.uniform(-1, 1, (3, 2)) / 2
            shake = random.uniform(0, 0.9) * random.uniform(-1, 1, (3, 2))
            rates = np.concatenate([random.uniform(0.3, 2.0, 3), random.uniform(12, 40, 3)])[:, None]
            sways = np.concatenate([np.concatenate([pan, shake]), rates, random.uniform(0, 6.3, (6, 1))], axis=1)
            zooms = np.array([random.uniform(0, 0.08), random.uniform(0.2, 1.0), random.uniform(0, 6.3)])
        return _View(camera, Image.fromarray(plate), margin_px, sways, zooms, live)

    def view_at(self, time_s: float) -> _View:
        """The camera whose picture is shown."""
        return self._views[[view for start_s, view in self._shots if start_s <= time_s][-1]]

    def render(self, frame: int, *, with_ball: bool) -> RenderedFrame:
        """One frame of the video."""
        random = generator(self._config.seed, f"frame {frame}", self._index)
        time_s = frame / self._config.fps
        view = self.view_at(time_s)
        picture = view.background(self._wh_px, time_s)
        exposure_s = time_s + self._shutter_s * np.linspace(-0.5, 0.5, 2 * _SEGMENTS + 1)
        ball_m = self.rally.ball(np.maximum(exposure_s, 0))
        path_px, px_per_m = view.project(ball_m, exposure_s)
        centre = path_px[_SEGMENTS]
        diameter = float(np.clip(px_per_m[_SEGMENTS] * self._sport.ball_m * self._ball.growth, 2.0, 20.0))
        inside = bool((np.abs(centre - (np.array(self._wh_px) - 1) / 2) <= np.array(self._wh_px) / 2).all())
        present = view.live and inside and not np.isnan(path_px).any()
        ball_depth = float((ball_m[_SEGMENTS] - view.camera.position_m) @ view.camera.forward) if present else np.inf
        people = self._people(view, time_s)
        for person in people:
            if person[0] >= ball_depth:
                _paste(picture, *person[1])
        visibility = Visibility.ABSENT
        if present:
            patch = footprint(path_px, diameter / 2, parts=self._ball.parts, soft=self._ball.soft)
            contrast = self._expose(picture, patch, draw=with_ball)
            hidden = _hidden_share(patch, [person[1] for person in people if person[0] < ball_depth])
            streak = float(np.linalg.norm(np.diff(path_px, axis=0), axis=1).sum())
            visibility = _judge(hidden, contrast, streak, diameter)
        for person in people:
            if person[0] < ball_depth:
                _paste(picture, *person[1])
        self._draw_strays(picture, time_s)
        pixels = self._develop(picture, random)
        if not present:
            return RenderedFrame(pixels, np.full(2, np.nan), visibility, float("nan"), float("nan"))
        return RenderedFrame(pixels, centre, visibility, diameter, streak)

    def _people(self, view: _View, time_s: float) -> list[tuple[float, tuple[np.ndarray, tuple[int, int]]]]:
        """(depth in metres, patch) of each player in the picture, the farthest first."""
        people = []
        for player, clothes, pace in zip(self.rally.players, self._clothes, self._paces, strict=True):
            ground = np.append(player.at(time_s), 0.0)
            depth = float((ground - view.camera.position_m) @ view.camera.forward)
            if depth < 1.5:
                continue
            foot, px_per_m = view.project(ground[None], np.array([time_s]))
            size = float(px_per_m[0]) * player.height_m
            if size > 1.6 * self._wh_px[1] or not (-size < foot[0, 0] < self._wh_px[0] + size):
                continue
            speed = float(np.linalg.norm(player.at(time_s + 0.05) - player.at(time_s - 0.05))) / 0.1
            since_hit = time_s - player.hit_s[np.abs(player.hit_s - time_s).argmin()] if len(player.hit_s) else 9.0
            patch = scenery.draw_person(
                foot[0], float(px_per_m[0]), clothes,
                height_m=player.height_m, stride=min(1.0, 0.15 + speed / 4),
                phase=float(pace) + time_s * (3 + 2 * min(speed, 4.0)),
                swing=float(np.interp(since_hit, [-0.5, -0.15, 0.0, 0.12, 0.5], [0.7, 3.9, 2.5, 0.8, 0.6])),
                handed=player.handed, racket=self._sport.name != "volleyball",
            )  # fmt: skip
            people.append((depth, patch))
        return sorted(people, key=lambda person: -person[0])

    def _expose(self, picture: np.ndarray, patch: tuple[np.ndarray, tuple[int, int]], *, draw: bool) -> float:
        """Blend the ball into the picture; its contrast to what is behind it, in grey levels."""
        alpha, window = _overlap(patch, picture.shape)
        if not alpha.size:
            return 0.0
        behind = picture[window].astype(np.float32)
        change = alpha[..., None] * self._ball.opacity * (self._ball.colour - behind)
        if draw:
            picture[window] = np.rint(behind + change).astype(np.uint8)
        return float(np.abs(change.mean(axis=-1)).max())

    def _draw_strays(self, picture: np.ndarray, time_s: float) -> None:
        """Small spots that drift through the picture and are not the ball: insects, confetti, birds."""
        for x, y, vx, vy, size, bright, wobble, start in self._strays:
            age_s = time_s - start * self._config.frames / self._config.fps
            if not 0 <= age_s < 2.5:
                continue
            speed = self._wh_px[0] * 0.25
            at = np.array([x * self._wh_px[0], y * self._wh_px[1] * 0.7]) + age_s * speed * (np.array([vx, vy]) - 0.5)
            at[1] += 6 * np.sin(age_s * 20 * wobble)
            path = at + np.linspace(-0.5, 0.5, 3)[:, None] * self._shutter_s * speed * (np.array([vx, vy]) - 0.5)
            alpha, window = _overlap(footprint(path, 0.7 + 1.6 * size, parts=_ROUND, soft=0.15), picture.shape)
            behind = picture[window].astype(np.float32)
            picture[window] = np.rint(behind + alpha[..., None] * 0.8 * (60 + 190 * bright - behind)).astype(np.uint8)

    def _develop(self, picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Flicker, noise and the broadcaster's scoreboard."""
        height, width = picture.shape[:2]
        if self._noise is not None:
            gain = 1 + self._flicker * float(random.standard_normal())
            curve = np.rint(np.arange(256) * gain).astype(np.int16)
            top, left = random.integers(0, 64, 2)
            noisy = curve[picture]
            noisy += self._noise[top : top + height, left : left + width]
            picture = np.clip(noisy, 0, 255).astype(np.uint8)
        if self._scoreboard is not None:
            patch, (x, y) = self._scoreboard
            picture[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        return picture


def footprint(
    path_px: np.ndarray, radius_px: float, *, parts: tuple[tuple[float, float, float], ...] = _ROUND, soft: float = 0.0
) -> tuple[np.ndarray, tuple[int, int]]:
    """Opacity [h, w] in 0..1 of a ball that runs along ``path_px`` [P, 2] during the exposure, and its top-left px.

    Each straight piece of the way is integrated in closed form: a point is covered while |p - a - t d| <= r, which is
    an interval of t; so a streak has no steps. Space is supersampled.
    """
    zoom = 4 if radius_px < 4 else 2
    pad = radius_px * 1.5 + 2
    left, top = np.floor(path_px.min(axis=0) - pad).astype(int)
    right, bottom = np.ceil(path_px.max(axis=0) + pad).astype(int) + 1
    x = left + (np.arange((right - left) * zoom) + 0.5) / zoom - 0.5
    y = top + (np.arange((bottom - top) * zoom) + 0.5) / zoom - 0.5
    way = path_px[-1] - path_px[0]
    length = float(np.linalg.norm(way))
    heading = way / length if length > 0.3 else np.array([0.0, 1.0])
    alpha = np.zeros((len(y), len(x)))
    for offset, relative_radius, opacity in parts:
        radius = radius_px * relative_radius
        for a, b in itertools.pairwise(path_px):
            ux = x[None, :] - (a[0] + offset * radius_px * heading[0])
            uy = y[:, None] - (a[1] + offset * radius_px * heading[1])
            dx, dy = b - a
            dd = max(dx * dx + dy * dy, 1e-6)
            middle = (ux * dx + uy * dy) / dd
            half = np.sqrt(np.maximum((radius * radius - ux * ux - uy * uy) / dd + middle * middle, 0))
            span = np.minimum(middle + half, 1) - np.maximum(middle - half, 0)
            alpha += np.maximum(span, 0) * (opacity / (len(path_px) - 1))
    alpha = alpha.reshape(bottom - top, zoom, right - left, zoom).mean(axis=(1, 3))
    if soft:
        for axis in (0, 1):
            alpha = (1 - 2 * soft) * alpha + soft * (np.roll(alpha, 1, axis) + np.roll(alpha, -1, axis))
    return np.minimum(alpha, 1).astype(np.float32), (int(left), int(top))


def _overlap(
    patch: tuple[np.ndarray, tuple[int, int]], shape: tuple[int, ...]
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """The part of a patch inside a picture of ``shape``, and where it lies there."""
    content, (left, top) = patch
    x0, y0 = min(max(left, 0), shape[1]), min(max(top, 0), shape[0])
    x1 = max(x0, min(left + content.shape[1], shape[1]))
    y1 = max(y0, min(top + content.shape[0], shape[0]))
    return content[y0 - top : y1 - top, x0 - left : x1 - left], (slice(y0, y1), slice(x0, x1))


def _paste(picture: np.ndarray, content: np.ndarray, corner: tuple[int, int]) -> None:
    """Lay a premultiplied RGBA patch over the picture."""
    inside, window = _overlap((content, corner), picture.shape)
    if inside.size:
        behind = picture[window] * (1 - inside[..., 3:] / 255)
        picture[window] = np.rint(inside[..., :3] + behind).clip(0, 255).astype(np.uint8)


def _hidden_share(ball: tuple[np.ndarray, tuple[int, int]], nearer: list[tuple[np.ndarray, tuple[int, int]]]) -> float:
    """Share of the ball's opacity that is covered by nearer people."""
    alpha, (left, top) = ball
    clear = np.ones_like(alpha)
    for content, (x, y) in nearer:
        covered, window = _overlap((content[..., 3], (x - left, y - top)), alpha.shape)
        clear[window] *= 1 - covered / 255
    return 1 - float((alpha * clear).sum() / max(float(alpha.sum()), 1e-9))


def _judge(hidden: float, contrast: float, streak_px: float, diameter_px: float) -> Visibility:
    """The word a careful annotator would choose."""
    if hidden >= 0.5:
        return Visibility.OCCLUDED
    if contrast < 10 or streak_px > max(3.0, 1.5 * diameter_px):
        return Visibility.BLURRED
    return Visibility.CLEAR


def _draw_ball(random: np.random.Generator, sport: flight.Sport, palette: int) -> _Ball:
    """Colour, size and softness of one video's ball; one in six hardly stands out from the court."""
    colours = {
        "badminton": [[248, 248, 244], [236, 240, 210]],
        "tennis": [[214, 236, 70], [226, 232, 120]],
        "volleyball": [[244, 232, 120], [240, 240, 236]],
        "pickleball": [[250, 226, 60], [240, 140, 50], [244, 244, 240]],
    }[sport.name]
    colour = np.array(colours[int(random.integers(len(colours)))], np.float32)
    if random.random() < 0.08:
        colour = np.array([30, 26, 40], np.float32)
    if random.random() < 0.16:
        share = np.float32(random.uniform(0.4, 0.7))
        colour = share * np.array(scenery.PALETTES[palette][0], np.float32) + (1 - share) * colour
    return _Ball(
        colour=colour * np.float32(random.uniform(0.8, 1.0)),
        opacity=float(random.uniform(0.8, 1.0)),
        growth=float(random.uniform(0.8, 2.2)),
        soft=float(random.uniform(0.05, 0.22)),
        parts=_SHUTTLE if sport.feathered else _ROUND,
    )


def _draw_noise(
    random: np.random.Generator, wh_px: tuple[int, int], strength: float
) -> tuple[np.ndarray | None, float]:
    """A tile of sensor noise int16 [H + 64, W + 64, 3], cut again for each frame, and the flicker's amplitude."""
    sigma, flicker = strength * random.uniform(0.8, 5.0), strength * random.uniform(0.0, 0.015)
    if not strength:
        return None, 0.0
    shape = (wh_px[1] + 64, wh_px[0] + 64)
    luma = random.standard_normal((*shape, 1), np.float32)
    chroma = random.standard_normal((*shape, 3), np.float32)
    return np.rint(sigma * (0.8 * luma + 0.5 * chroma)).astype(np.int16), float(flicker)


def _draw_scoreboard(random: np.random.Generator, wh_px: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]] | None:
    """A broadcaster's scoreboard in a corner, in two videos of three."""
    if random.random() < 1 / 3:
        return None
    width, height = round(0.2 * wh_px[0]), round(0.07 * wh_px[1])
    image = Image.new("RGB", (width, height), tuple(int(v) for v in random.integers(0, 80, 3)))
    draw = ImageDraw.Draw(image)
    for row in range(2):
        name = "".join(chr(65 + int(letter)) for letter in random.integers(0, 26, 7))
        score = f"{name}  {int(random.integers(0, 22))}"
        draw.text(
            (4, (row + 0.5) * height / 2),
            score,
            fill=(240, 240, 240),
            font=ImageFont.load_default(height * 0.4),
            anchor="lm",
        )
    x = round(wh_px[0] * random.choice([0.05, 0.75]))
    y = round(wh_px[1] * random.choice([0.05, 0.88]))
    return np.asarray(image), (x, y)

"""Rows drawn on their video: a ring on the ball, its recent way, and what is known of it.

A ring leaves the ball visible; its centre is the row of the same frame. The way of the last half second fades, and is
broken where the ball is absent or jumps, so that a wrong detection looks wrong. Filled positions (interpolated,
inpainted) have a colour of their own. Shapes are drawn into masks at four times the size and reduced, which places
them to a quarter of a pixel.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from specktrack import telemetry
from specktrack.errors import ConfigError, MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.schema import Clip, Provenance, VideoRef
from specktrack.storage import stat, to_uri
from specktrack.video import VideoInfo
from specktrack.video.process import DecodeLimits, DecoderProcess
from specktrack.video.sound import Sound
from specktrack.video.writer import write_copy

log = telemetry.get_logger()

TRAIL_S = 0.5
JUMP_SHARE = 0.2
"""A step longer than this share of the picture's diagonal is not drawn as a way."""
RING_SHARE = 0.016
"""The ring's radius as a share of the picture's height."""
LEAST_RING_PX = 5.0
FINE = 4
"""Masks are drawn at this multiple and reduced."""

SEEN = (255, 214, 10)
FILLED = (255, 64, 160)
LABELLED = (64, 220, 255)
COLOURS = {
    Provenance.DETECTED.value: SEEN,
    Provenance.TRACKED.value: SEEN,
    Provenance.LABELLED.value: LABELLED,
    Provenance.INTERPOLATED.value: FILLED,
    Provenance.INPAINTED.value: FILLED,
}
SHADE = (0, 0, 0)
TEXT = (255, 255, 255)


def render(video: VideoRef | str, rows: pa.Table, out_path: str | Path, *, limits: DecodeLimits | None = None) -> None:
    """Write ``video`` with its ``rows`` drawn on it as an MP4, a few frames in memory at a time.

    It is its source's twin: as many pictures at the same times, pixels of the same aspect, the same colours and sound.
    A video that is damaged or ends early is drawn as far as it can be read. ConfigError if the rows belong to another
    video, MediaError if nothing can be read.
    """
    ref = stat(to_uri(video)) if isinstance(video, str) else video
    with DecoderProcess(limits) as decoder, DecoderProcess(limits) as listener:
        info = decoder.probe(ref)
        tracks = _tracks(rows, ref)
        whole, size = Clip(video=ref, start=0, stop=info.frames), Viewport(info.size_wh_px, info.size_wh_px)
        with closing(decoder.read_clip(whole, info=info, viewport=size)) as batches:
            write_copy(out_path, _drawn(batches, info, tracks), info, _heard(listener, ref))


def _heard(decoder: DecoderProcess, ref: VideoRef) -> Iterator[Sound]:
    """The sound as far as it can be decoded: without it a picture is still worth seeing."""
    try:
        yield from decoder.read_sound(ref)
    except MediaError as error:
        log.warning("an overlay without all its sound", video=ref.uri, fault=str(error))


def _tracks(rows: pa.Table, ref: VideoRef) -> list[Trajectory]:
    """One trajectory per object of the video; a table of one video is taken wherever that video lay."""
    videos = pc.unique(rows["video"]).to_pylist()
    if len(videos) > 1 or ref.uri in videos:
        rows = rows.filter(pc.equal(rows["video"], ref.uri))
        if not rows.num_rows:
            raise ConfigError("no rows of this video", ref.uri, remedy=f"the rows are of {len(videos)} other videos")
    objects = sorted(pc.unique(rows["object"]).to_pylist())
    return [Trajectory.from_rows(rows.filter(pc.equal(rows["object"], each))) for each in objects]


def _drawn(
    batches: Iterable[FrameBatch], info: VideoInfo, tracks: Sequence[Trajectory]
) -> Iterator[tuple[float, np.ndarray]]:
    """Times and pictures with rows on them."""
    reach, any_drawn = max(1, round(TRAIL_S * info.fps)), False
    aspect = info.pixel_aspect[0] / info.pixel_aspect[1]
    try:
        for batch in batches:
            for frame, pts_s, pixels in zip(batch.frame.tolist(), batch.pts_s.tolist(), batch.pixels, strict=True):
                trails = [track[_rows_of(track, frame - reach, frame)] for track in tracks]
                yield pts_s, draw_positions(pixels, trails, frame=frame, pts_s=pts_s, pixel_aspect=aspect)
                any_drawn = True
    except MediaError as error:
        if not any_drawn or error.reason not in (QuarantineReason.TRUNCATED, QuarantineReason.DAMAGED):
            raise


def _rows_of(track: Trajectory, first: int, last: int) -> slice:
    return slice(*np.searchsorted(track.frame, [first, last + 1]).tolist())


def draw_positions(
    pixels: np.ndarray, trails: Sequence[Trajectory], *, frame: int, pts_s: float, pixel_aspect: float = 1.0
) -> np.ndarray:
    """A copy of a picture, uint8 [H, W, 3] at source size, with each object's rows up to ``frame`` drawn on it.

    A ring is round where pixels of ``pixel_aspect`` (width to height) are shown.
    """
    image = Image.fromarray(pixels)  # copies
    for trail in trails:
        if trail.present.any():
            _draw_trail(image, trail, frame, pixel_aspect)
    _draw_caption(image, _caption(trails, frame, pts_s))
    return np.asarray(image)


def _draw_trail(image: Image.Image, trail: Trajectory, frame: int, pixel_aspect: float) -> None:
    """Paint the way and, if the object is present now, its ring (or box), into the part of the image they cover."""
    width, height = image.size
    radius = max(LEAST_RING_PX, RING_SHARE * height)
    stroke = max(1.3, height / 380)
    here = trail.xy_px[trail.present]
    margin = radius * max(1.0, 1 / pixel_aspect) + 4 * stroke + 2
    extent = np.nan_to_num(trail.wh_px[trail.present]).max(axis=0) / 2
    low = np.clip(np.floor(here.min(axis=0) - margin - extent), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(here.max(axis=0) + margin + extent), 0, (width, height)).astype(int)
    if (high <= low).any():
        return
    canvas = _Canvas((*low.tolist(), *high.tolist()))
    jump_px = JUMP_SHARE * float(np.hypot(width, height))
    age = (frame - trail.frame) / max(1, frame - int(trail.frame[0]))
    for i in range(1, len(trail)):
        step = trail.xy_px[i] - trail.xy_px[i - 1]
        if trail.frame[i] == trail.frame[i - 1] + 1 and np.hypot(*step) <= jump_px:  # False where one is absent
            ends = _outside(trail.xy_px[i - 1], trail.xy_px[i], trail.xy_px[-1], radius + stroke)
            if ends is not None:
                canvas.line(ends, stroke * 1.2, strength=0.85 * (1 - float(age[i])) ** 0.7, colour=_colour(trail, i))
    if trail.frame[-1] == frame and trail.present[-1]:
        radii_px = np.array([radius / pixel_aspect, radius])
        canvas.ring(trail.xy_px[-1], trail.wh_px[-1], radii_px, stroke, colour=_colour(trail, -1))
    canvas.paste_on(image)


def _colour(trail: Trajectory, row: int) -> tuple[int, int, int]:
    return COLOURS[str(trail.provenance[row])]


def _outside(start: np.ndarray, end: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray | None:
    """The part of a segment that does not run into the present ring, [2, 2]; None if all of it does."""
    if np.isnan(centre).any() or np.hypot(*(end - centre)) >= radius:
        return np.stack([start, end])
    far = float(np.hypot(*(start - centre)))
    return None if far <= radius else np.stack([start, centre + (start - centre) * (radius / far)])


class _Canvas:
    """Fine masks over one part of a picture: one of shade, and one for each colour."""

    def __init__(self, box: tuple[int, int, int, int]) -> None:
        self._box = box
        self._fine_wh = ((box[2] - box[0]) * FINE, (box[3] - box[1]) * FINE)
        self._masks: dict[tuple[int, int, int], Image.Image] = {}

    def _mask(self, colour: tuple[int, int, int]) -> Image.Image:
        return self._masks.setdefault(colour, Image.new("L", self._fine_wh))

    def _fine(self, xy_px: np.ndarray) -> np.ndarray:
        """Source px to px of the mask; both count from pixel centres."""
        return (np.asarray(xy_px, float) - self._box[:2] + 0.5) * FINE - 0.5

    def line(self, ends_px: np.ndarray, width_px: float, *, strength: float, colour: tuple[int, int, int]) -> None:
        """A segment with round ends; ``strength`` in [0, 1]."""
        (ax, ay), (bx, by) = self._fine(ends_px).tolist()
        draw, width = ImageDraw.Draw(self._mask(colour)), width_px * FINE
        draw.line((ax, ay, bx, by), fill=round(255 * strength), width=max(1, round(width)))
        draw.ellipse((bx - width / 2, by - width / 2, bx + width / 2, by + width / 2), fill=round(255 * strength))

    def ring(
        self, xy_px: np.ndarray, wh_px: np.ndarray, radii_px: np.ndarray, stroke: float, *, colour: tuple[int, int, int]
    ) -> None:
        """A ring around a point, or a frame around a box, with a dark edge on both sides."""
        half = radii_px if np.isnan(wh_px).any() else wh_px.astype(float) / 2 + stroke
        x, y = self._fine(xy_px).tolist()
        for mask, grown, width in ((self._mask(SHADE), stroke * 0.7, stroke * 2.4), (self._mask(colour), 0.0, stroke)):
            rx, ry = ((half + stroke / 2 + grown) * FINE).tolist()
            shape = (x - rx, y - ry, x + rx, y + ry)
            draw, fine_width, level = (
                ImageDraw.Draw(mask),
                round(width * FINE),
                140 if mask is self._mask(SHADE) else 255,
            )
            if np.isnan(wh_px).any():
                draw.ellipse(shape, outline=level, width=fine_width)
            else:
                draw.rounded_rectangle(shape, radius=3 * stroke * FINE, outline=level, width=fine_width)

    def paste_on(self, image: Image.Image) -> None:
        """Blend the shade and then the colours into the picture."""
        for colour in sorted(self._masks, key=lambda each: each != SHADE):
            image.paste(colour, self._box, self._masks[colour].reduce(FINE))


def _caption(trails: Sequence[Trajectory], frame: int, pts_s: float) -> str:
    """Frame, time, and of each object its score and, unless plainly detected, how it came to be."""
    parts = [f"frame {frame}", f"{pts_s:.2f} s"]
    for trail in trails:
        if not len(trail) or trail.frame[-1] != frame:
            continue
        if not trail.present[-1]:
            parts.append("absent")
            continue
        score = float(trail.score[-1])
        words = [] if trail.provenance[-1] == Provenance.DETECTED.value else [str(trail.provenance[-1])]
        parts.append(" ".join(words + ([] if np.isnan(score) else [f"score {score:.2f}"])))
    return "   ".join(part for part in parts if part)


def _draw_caption(image: Image.Image, text: str) -> None:
    """White on a dark veil in the lower left corner: readable on any court."""
    size = max(11, round(image.height / 40))
    font, inset, pad = _font(size), round(size * 0.8), round(size * 0.5)
    box_w, box_h = round(font.getlength(text)) + 2 * pad, size + 2 * pad
    left, top = inset, image.height - inset - box_h
    veil = Image.new("L", (box_w, box_h))
    ImageDraw.Draw(veil).rounded_rectangle((0, 0, box_w - 1, box_h - 1), radius=pad, fill=150)
    image.paste(SHADE, (left, top), veil)
    ImageDraw.Draw(image).text((left + pad, top + box_h / 2), text, fill=TEXT, font=font, anchor="lm")


@lru_cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)  # comes with Pillow: the same letters on every machine

"""Rows drawn on their video: a ring on the ball, its recent way, and what is known of it.

A ring leaves the ball visible; its centre is the row of the same frame. The way of the last half second fades, and is
broken where the ball is absent or jumps, so that a wrong detection looks wrong; a cross marks where it was lost. Filled
positions (interpolated, inpainted) have a colour of their own. Lines are as thick as the picture is large. Shapes are
drawn into masks at four times the size and reduced, which places them to a quarter of a pixel.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from specktrack import telemetry
from specktrack.config import Config
from specktrack.errors import ConfigError, MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.schema import Clip, Event, Provenance, VideoRef
from specktrack.storage import stat, to_uri
from specktrack.video import VideoInfo
from specktrack.video.process import DecodeLimits, DecoderProcess
from specktrack.video.sound import Sound
from specktrack.video.writer import write_copy

log = telemetry.get_logger()

JUMP_SHARE = 0.2
"""A step longer than this share of the picture's diagonal is not drawn as a way."""
RING_SHARE = 0.016
"""The ring's radius as a share of the picture's height."""
LEAST_RING_PX = 5.0
FINE = 4
"""Masks are drawn at this multiple and reduced."""
INSET_SHARE, INSET_ZOOM = 0.3, 4
"""Side of the inset as a share of the picture's height, and how much larger it shows things."""
EVENT_S = 0.5
"""For so long a hit or a bounce is shown."""

SHADE = (0, 0, 0)
TEXT = (255, 255, 255)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colours that belong together."""

    seen: Colour
    filled: Colour
    labelled: Colour
    event: Colour

    def of(self, provenance: str) -> Colour:
        """The colour of a row."""
        if provenance in (Provenance.INTERPOLATED.value, Provenance.INPAINTED.value):
            return self.filled
        return self.labelled if provenance == Provenance.LABELLED.value else self.seen


THEMES: Mapping[str, Theme] = {
    "bright": Theme((255, 214, 10), (255, 64, 160), (64, 220, 255), (120, 255, 120)),
    "dark": Theme((150, 40, 0), (120, 0, 120), (0, 60, 150), (0, 90, 30)),  # on snow, sand and bright sky
    "colour-blind": Theme((240, 228, 66), (213, 94, 0), (86, 180, 233), (0, 158, 115)),  # Okabe and Ito, 2008
}


class OverlayStyle(Config):
    """How rows are drawn."""

    theme: Literal["bright", "dark", "colour-blind"] = "bright"
    """Colours: for most courts, for bright grounds, or for colour-blind viewers."""
    trail_s: float = Field(default=0.5, ge=0)
    """Length of the trail behind the ball, in seconds."""
    inset: bool = False
    """Show the surroundings of the ball enlarged, in an upper corner."""


@dataclass(frozen=True)
class Told:
    """Facts about one object besides its rows."""

    speed: Mapping[int, str] = field(default_factory=dict)
    """In words, by frame."""
    events: Sequence[tuple[float, str, np.ndarray]] = ()
    """Time in seconds, word and place [2] px, in the order of time."""


def told_by(events: pa.Table, flights: pa.Table) -> dict[int, Told]:
    """The EVENTS and FLIGHTS of one video for each object, by its number."""
    shown = {Event.SERVE.value, Event.HIT.value, Event.BOUNCE.value, Event.NET.value}
    speeds: dict[int, dict[int, str]] = {}
    for row in flights.select(["object", "frame", "speed_px_s", "speed_mps"]).to_pylist():
        metres, px = row["speed_mps"], row["speed_px_s"]
        if metres is not None or px is not None:
            words = f"{metres:.0f} m/s" if metres is not None else f"{px:.0f} px/s"
            speeds.setdefault(row["object"], {})[row["frame"]] = words
    moments: dict[int, list[tuple[float, str, np.ndarray]]] = {}
    for row in events.to_pylist():
        if row["event"] in shown and row["x"] is not None:
            place = np.array([row["x"], row["y"]])
            moments.setdefault(row["object"], []).append((row["time_s"], row["event"], place))
    return {number: Told(speeds.get(number, {}), moments.get(number, [])) for number in {*speeds, *moments}}


def render(
    video: VideoRef | str,
    rows: pa.Table,
    out_path: str | Path,
    *,
    style: OverlayStyle | None = None,
    told: Mapping[int, Told] | None = None,
    limits: DecodeLimits | None = None,
) -> None:
    """Write ``video`` with its ``rows`` drawn on it as an MP4, a few frames in memory at a time.

    It is its source's twin: as many pictures at the same times, pixels of the same aspect, the same colours and sound.
    A video that is damaged or ends early is drawn as far as it can be read. ``told`` adds speeds and events, by the
    object's number. ConfigError if the rows belong to another video, MediaError if nothing can be read.
    """
    ref = stat(to_uri(video)) if isinstance(video, str) else video
    with DecoderProcess(limits) as decoder, DecoderProcess(limits) as listener:
        info = decoder.probe(ref)
        tracks = _tracks(rows, ref)
        whole, size = Clip(video=ref, start=0, stop=info.frames), Viewport(info.size_wh_px, info.size_wh_px)
        with closing(decoder.read_clip(whole, info=info, viewport=size)) as batches:
            drawn = _drawn(batches, info, tracks, style or OverlayStyle(), told or {})
            write_copy(out_path, drawn, info, _heard(listener, ref))


def _heard(decoder: DecoderProcess, ref: VideoRef) -> Iterator[Sound]:
    """The sound as far as it can be decoded: without it a picture is still worth seeing."""
    try:
        yield from decoder.read_sound(ref)
    except MediaError as error:
        log.warning("an overlay lacks some of its sound", video=ref.uri, fault=str(error))


def _tracks(rows: pa.Table, ref: VideoRef) -> dict[int, Trajectory]:
    """One trajectory per object of the video; a table of one video is taken wherever that video lay."""
    videos = pc.unique(rows["video"]).to_pylist()
    if len(videos) > 1 or ref.uri in videos:
        rows = rows.filter(pc.equal(rows["video"], ref.uri))
        if not rows.num_rows:
            raise ConfigError("no rows of this video", ref.uri, remedy=f"the rows belong to {len(videos)} other videos")
    objects = sorted(pc.unique(rows["object"]).to_pylist())
    return {each: Trajectory.from_rows(rows.filter(pc.equal(rows["object"], each))) for each in objects}


def _drawn(
    batches: Iterable[FrameBatch],
    info: VideoInfo,
    tracks: Mapping[int, Trajectory],
    style: OverlayStyle,
    told: Mapping[int, Told],
) -> Iterator[tuple[float, np.ndarray]]:
    """Times and pictures with rows on them."""
    reach, any_drawn = max(1, round(style.trail_s * info.fps)), False
    beside = [told.get(number, Told()) for number in tracks]
    aspect = info.pixel_aspect[0] / info.pixel_aspect[1]
    try:
        for batch in batches:
            for frame, pts_s, pixels in zip(batch.frame.tolist(), batch.pts_s.tolist(), batch.pixels, strict=True):
                trails = [track[_rows_of(track, frame - reach, frame)] for track in tracks.values()]
                yield (
                    pts_s,
                    draw_positions(
                        pixels, trails, frame=frame, pts_s=pts_s, pixel_aspect=aspect, style=style, told=beside
                    ),
                )
                any_drawn = True
    except MediaError as error:
        if not any_drawn or error.reason not in (QuarantineReason.TRUNCATED, QuarantineReason.DAMAGED):
            raise


def _rows_of(track: Trajectory, first: int, last: int) -> slice:
    return slice(*np.searchsorted(track.frame, [first, last + 1]).tolist())


def draw_positions(
    pixels: np.ndarray,
    trails: Sequence[Trajectory],
    *,
    frame: int,
    pts_s: float,
    pixel_aspect: float = 1.0,
    style: OverlayStyle | None = None,
    told: Sequence[Told] = (),
) -> np.ndarray:
    """A copy of a picture, uint8 [H, W, 3] at source size, with each object's rows up to ``frame`` drawn on it.

    A ring is round where pixels of ``pixel_aspect`` (width to height) are shown. ``told`` has an entry for each trail.
    """
    style = style or OverlayStyle()
    theme = THEMES[style.theme]
    image = Image.fromarray(pixels)  # copies
    for trail in trails:
        if trail.present.any():
            _draw_trail(image, trail, frame, pixel_aspect, theme)
    if style.inset and trails and trails[0].present.any():
        _draw_inset(image, trails[0].xy_px[trails[0].present][-1])
    for each in told:
        _draw_events(image, each, pts_s, theme)
    _draw_caption(image, _caption(trails, frame, pts_s, told))
    return np.asarray(image)


def _stroke_px(image: Image.Image) -> float:
    """Width of lines in a picture of this size."""
    return max(1.3, image.height / 380)


def _draw_events(image: Image.Image, told: Told, pts_s: float, theme: Theme) -> None:
    """A ring that grows and fades where a hit, a bounce or a net crossing just was, and its name."""
    size, stroke = max(11, round(image.height / 40)), _stroke_px(image)
    for at_s, word, place in told.events:
        age = (pts_s - at_s) / EVENT_S
        if not 0 <= age < 1:
            continue
        radius = RING_SHARE * image.height * (1.5 + 1.5 * age)
        reach = radius + 2 * stroke + 1
        box = (*np.floor(place - reach).astype(int).tolist(), *np.ceil(place + reach).astype(int).tolist())
        canvas = _Canvas(box)
        canvas.ring(place, np.full(2, np.nan), np.full(2, radius), stroke, colour=theme.event, strength=1 - age)
        canvas.paste_on(image)
        at = (float(place[0] + reach), float(place[1] - reach))
        draw = ImageDraw.Draw(image)
        draw.text(at, word, fill=theme.event, font=_font(size), anchor="lm", stroke_width=2, stroke_fill=SHADE)


def _draw_inset(image: Image.Image, centre_px: np.ndarray) -> None:
    """The surroundings of a point, enlarged, in whichever upper corner is farther from it."""
    side, edge = round(INSET_SHARE * image.height), max(1, round(_stroke_px(image)))
    half = side / INSET_ZOOM / 2
    x, y = (centre_px + 0.5).tolist()
    around = image.resize((side, side), Image.Resampling.BILINEAR, box=_inside((x - half, y - half), 2 * half, image))
    left = edge if x > image.width / 2 else image.width - side - 3 * edge
    image.paste(TEXT, (left, edge, left + side + 2 * edge, side + 3 * edge))
    image.paste(around, (left + edge, 2 * edge))


def _inside(corner: tuple[float, float], side: float, image: Image.Image) -> tuple[float, float, float, float]:
    """The square at ``corner``, moved so that it lies in the picture."""
    left = min(max(corner[0], 0.0), image.width - side)
    top = min(max(corner[1], 0.0), image.height - side)
    return left, top, left + side, top + side


def _draw_trail(image: Image.Image, trail: Trajectory, frame: int, pixel_aspect: float, theme: Theme) -> None:
    """Paint the way, crosses where the object was lost, and the ring (or box) of one that is present now."""
    width, height = image.size
    radius = max(LEAST_RING_PX, RING_SHARE * height)
    stroke = _stroke_px(image)
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
                canvas.line(
                    ends, stroke * 1.2, strength=0.85 * (1 - float(age[i])) ** 0.7, colour=theme.of(trail.provenance[i])
                )
        if trail.present[i - 1] and not trail.present[i]:
            canvas.cross(trail.xy_px[i - 1], radius / 2, stroke, strength=1 - float(age[i]), colour=theme.filled)
    if trail.frame[-1] == frame and trail.present[-1]:
        radii_px = np.array([radius / pixel_aspect, radius])
        canvas.ring(trail.xy_px[-1], trail.wh_px[-1], radii_px, stroke, colour=theme.of(trail.provenance[-1]))
    canvas.paste_on(image)


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
        self._masks: dict[Colour, Image.Image] = {}

    def _mask(self, colour: Colour) -> Image.Image:
        return self._masks.setdefault(colour, Image.new("L", self._fine_wh))

    def _fine(self, xy_px: np.ndarray) -> np.ndarray:
        """Source px to px of the mask; both count from pixel centres."""
        return (np.asarray(xy_px, float) - self._box[:2] + 0.5) * FINE - 0.5

    def line(self, ends_px: np.ndarray, width_px: float, *, strength: float, colour: Colour) -> None:
        """A segment with round ends; ``strength`` in [0, 1]."""
        (ax, ay), (bx, by) = self._fine(ends_px).tolist()
        draw, width = ImageDraw.Draw(self._mask(colour)), width_px * FINE
        draw.line((ax, ay, bx, by), fill=round(255 * strength), width=max(1, round(width)))
        draw.ellipse((bx - width / 2, by - width / 2, bx + width / 2, by + width / 2), fill=round(255 * strength))

    def cross(self, xy_px: np.ndarray, reach_px: float, width_px: float, *, strength: float, colour: Colour) -> None:
        """Two strokes that cross in a point."""
        for way in ((1, 1), (1, -1)):
            ends = xy_px + np.array([[-1], [1]]) * reach_px * np.array(way)
            self.line(ends, width_px, strength=strength, colour=colour)

    def ring(
        self,
        xy_px: np.ndarray,
        wh_px: np.ndarray,
        radii_px: np.ndarray,
        stroke: float,
        *,
        colour: Colour,
        strength: float = 1.0,
    ) -> None:
        """A ring around a point, or a frame around a box, with a dark edge on both sides; ``strength`` in [0, 1]."""
        half = radii_px if np.isnan(wh_px).any() else wh_px.astype(float) / 2 + stroke
        x, y = self._fine(xy_px).tolist()
        for mask, grown, width in ((self._mask(SHADE), stroke * 0.7, stroke * 2.4), (self._mask(colour), 0.0, stroke)):
            rx, ry = ((half + stroke / 2 + grown) * FINE).tolist()
            shape = (x - rx, y - ry, x + rx, y + ry)
            draw, fine_width, level = (
                ImageDraw.Draw(mask),
                round(width * FINE),
                round(strength * (140 if mask is self._mask(SHADE) else 255)),
            )
            if np.isnan(wh_px).any():
                draw.ellipse(shape, outline=level, width=fine_width)
            else:
                draw.rounded_rectangle(shape, radius=3 * stroke * FINE, outline=level, width=fine_width)

    def paste_on(self, image: Image.Image) -> None:
        """Blend the shade and then the colours into the picture."""
        for colour in sorted(self._masks, key=lambda each: each != SHADE):
            image.paste(colour, self._box, self._masks[colour].reduce(FINE))


def _caption(trails: Sequence[Trajectory], frame: int, pts_s: float, told: Sequence[Told]) -> str:
    """Frame, time, and of each object its score, kind and speed and, unless plainly detected, how it came to be."""
    parts = [f"frame {frame}", f"{pts_s:.2f} s"]
    for trail, beside in zip(trails, told or [Told()] * len(trails), strict=True):
        if not len(trail) or trail.frame[-1] != frame:
            continue
        if not trail.present[-1]:
            parts.append("absent")
            continue
        score = float(trail.score[-1])
        words = [] if trail.provenance[-1] == Provenance.DETECTED.value else [str(trail.provenance[-1])]
        parts.append(" ".join(words + ([] if np.isnan(score) else [f"score {score:.2f}"])))
        if trail.kind[-1] is not None:
            sure = float(trail.kind_score[-1])
            parts.append(str(trail.kind[-1]) + ("" if np.isnan(sure) else f" {sure:.2f}"))
        parts.append(beside.speed.get(frame, ""))
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

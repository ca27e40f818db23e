"""The data types that all parts share: videos, clips, rows and the record of a finished clip.

Rows have one Arrow schema for labels and predictions alike, so that evaluation is a join, a corrected prediction *is*
a label, and an importer and its exporter are one mapping read both ways.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from specktrack.config import Config, sha_of
from specktrack.errors import ConfigError, QuarantineReason

RECORD_VERSION = 1


class Visibility(StrEnum):
    """How well the object can be seen in one frame."""

    ABSENT = "absent"
    CLEAR = "clear"
    BLURRED = "blurred"
    OCCLUDED = "occluded"


class Provenance(StrEnum):
    """Where a row's position comes from; a filled position is never marked as detected."""

    LABELLED = "labelled"
    DETECTED = "detected"
    TRACKED = "tracked"
    INTERPOLATED = "interpolated"
    INPAINTED = "inpainted"


class Event(StrEnum):
    """Events of a ball in play."""

    RALLY_START = "rally_start"
    SERVE = "serve"
    HIT = "hit"
    NET = "net"
    BOUNCE = "bounce"
    RALLY_END = "rally_end"


_WORD = pa.dictionary(pa.int32(), pa.string())

ROWS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("pts_s", pa.float64(), nullable=False),
        pa.field("object", pa.int32(), nullable=False),
        pa.field("x", pa.float32()),
        pa.field("y", pa.float32()),
        pa.field("w", pa.float32()),
        pa.field("h", pa.float32()),
        pa.field("visibility", _WORD, nullable=False),
        pa.field("score", pa.float32()),
        pa.field("provenance", _WORD, nullable=False),
        pa.field("gap", pa.int32(), nullable=False),
        pa.field("kind", _WORD),
        pa.field("kind_score", pa.float32()),
    ]
)
"""One row per frame and object, absent frames included. x, y, w, h in source px; null where absent or not known."""
LATER = ("kind", "kind_score")
"""Columns that rows of older versions lack: they are read as null."""

MEANINGS: Mapping[str, str] = {
    "video": "The video's URI; over HTTP the name under which the client knows it.",
    "frame": "0-based, in presentation order.",
    "pts_s": "Presentation time, seconds; frame and time together say which picture it is, never frame / fps.",
    "object": "0 where one object is followed.",
    "x": "Centre, source px from the left, an integer being a pixel's centre; null where the object is absent.",
    "y": "Centre, source px from the top; null where the object is absent.",
    "w": "Width, source px; null where the object is absent, and for trackers of points.",
    "h": "Height, source px; null where the object is absent, and for trackers of points.",
    "visibility": "absent has no position. Predictions say clear, or occluded for a filled position; labels know more.",
    "score": "In [0, 1], comparable within one model: of the position taken. Where the object is absent, and where a"
    " position was filled, it is that of the best candidate that was not taken. Null for labels.",
    "provenance": "How the row came about: labelled by a person, detected by a network that saw each frame alone or in"
    " a window, tracked from frame to frame, interpolated or inpainted. Of an absent row it says who looked: detected"
    " means that a network saw the frame and took no candidate. A filled position is never marked as detected.",
    "gap": "Length, in frames, of the gap that a filled position belongs to; 0 for all other rows.",
    "kind": "What the object is (drone, bird, airplane, helicopter), by its newest frames together. Null where nobody"
    " asked, where it is absent and where a position was filled; in older outputs.",
    "kind_score": "Probability that the kind is right, in [0, 1]. Null where there is no kind, and for labels.",
}
"""What each column says."""

EVENTS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("object", pa.int32(), nullable=False),
        pa.field("event", _WORD, nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("rally", pa.int32()),
        pa.field("x", pa.float32()),
        pa.field("y", pa.float32()),
        pa.field("sigma_px", pa.float32()),
        pa.field("speed_before_px_s", pa.float32()),
        pa.field("speed_after_px_s", pa.float32()),
        pa.field("x_m", pa.float32()),
        pa.field("y_m", pa.float32()),
        pa.field("z_m", pa.float32()),
        pa.field("speed_before_mps", pa.float32()),
        pa.field("speed_after_mps", pa.float32()),
        pa.field("score", pa.float32()),
    ]
)
"""One row per event. ``time_s`` is on the clock of the rows' ``pts_s`` and may lie between frames; ``frame`` is the
nearest. x, y in source px; metres on the court (origin below the net's middle, x to the right, y away from the camera,
z up) are null without a court. A serve is the hit that opens a rally, and no hit beside it. Truth has no score."""

FLIGHTS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("pts_s", pa.float64(), nullable=False),
        pa.field("object", pa.int32(), nullable=False),
        pa.field("rally", pa.int32()),
        pa.field("x", pa.float32()),
        pa.field("y", pa.float32()),
        pa.field("sigma_px", pa.float32()),
        pa.field("vx_px_s", pa.float32()),
        pa.field("vy_px_s", pa.float32()),
        pa.field("speed_px_s", pa.float32()),
        pa.field("x_m", pa.float32()),
        pa.field("y_m", pa.float32()),
        pa.field("z_m", pa.float32()),
        pa.field("speed_mps", pa.float32()),
        pa.field("speed_sigma_mps", pa.float32()),
    ]
)
"""One row per row of the source, smoothed: where the ball was, how surely (one standard deviation), and how fast.
Null where nothing is known; metres as in EVENTS."""


class Box(Config):
    """An axis-aligned box in centre form, source px."""

    cx_px: float
    cy_px: float
    w_px: float = Field(gt=0)
    h_px: float = Field(gt=0)


class Prompt(Config):
    """The object to follow: a box in one frame (0-based index in presentation order)."""

    frame: int = Field(ge=0)
    box: Box
    object: int = Field(default=0, ge=0)
    """Number of the object in the rows; prompts of one number show one object."""

    @model_serializer(mode="wrap")
    def _as_outputs_are_known(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The number only where it says something: an output of one object is resumed by its hash."""
        return {name: value for name, value in fields(self).items() if name != "object" or value}


class VideoRef(Config):
    """The identity of a video's bytes in storage."""

    uri: str
    """``file://`` or ``s3://``; a trailing slash means a folder of frames."""
    etag: str
    """The store's version tag, which changes when the bytes change."""
    size_bytes: int = Field(ge=0)
    stream: int | None = Field(default=None, ge=0)
    """Which of the container's streams, by its number there; None: the best one."""

    @model_validator(mode="after")
    def _known_scheme(self) -> Self:
        if urlsplit(self.uri).scheme not in ("file", "s3"):
            raise ValueError(f"a video URI starts with file:// or s3://, not {self.uri!r}")
        return self

    @property
    def name(self) -> str:
        """The last part of the URI without its suffix, reduced to characters that are safe in any key or file name."""
        path = unquote(urlsplit(self.uri).path)
        return re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(path).stem).strip("._")[:60] or "video"

    @property
    def key(self) -> str:
        """Readable and unique: the name and 12 hex digits over uri, etag, size and, if one was asked for, stream."""
        identity = [self.uri, self.etag, self.size_bytes, *([] if self.stream is None else [self.stream])]
        return f"{self.name}-{sha_of(identity)[:12]}"


class Clip(Config):
    """A half-open range of frames of one video: the unit of work, retry and commit."""

    video: VideoRef
    start: int = Field(ge=0)
    stop: int
    """One past the last frame."""
    lead_in: int = Field(default=0, ge=0)
    """Frames before ``start`` that are decoded to warm up; their rows are dropped."""
    lead_out: int = Field(default=0, ge=0)
    """Frames after ``stop`` that are decoded so that the last rows see their future; their rows are dropped."""
    prompts: tuple[Prompt, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.start < self.stop:
            raise ValueError(f"a clip needs start < stop, got [{self.start}, {self.stop})")
        if self.lead_in > self.start:
            raise ValueError(f"lead_in {self.lead_in} reaches before frame 0 from start {self.start}")
        for prompt in self.prompts:
            if not self.start <= prompt.frame < self.stop:
                raise ValueError(f"the prompt's frame {prompt.frame} lies outside [{self.start}, {self.stop})")
        return self

    @property
    def key(self) -> str:
        """Name of the clip below its video's key; sorts by start."""
        return f"{self.start:09d}-{self.stop:09d}"


class ClipStatus(StrEnum):
    """Outcome of a clip."""

    COMMITTED = "committed"
    QUARANTINED = "quarantined"


class ClipRecord(Config):
    """The ledger's receipt for one clip: the only truth about what is complete."""

    version: int = RECORD_VERSION
    video: VideoRef
    start: int
    stop: int
    """One past the last frame; equal to ``start`` where a video could not even be cut into clips."""
    status: ClipStatus
    data_uri: str | None = None
    """Key of the rows below the output's root; a quarantined clip has it if a prefix of its frames could be read."""
    rows: int = Field(default=0, ge=0)
    sha256: str | None = None
    """Over the bytes of the data object."""
    decode_errors: int = Field(default=0, ge=0)
    reason: QuarantineReason | None = None
    detail: str = ""
    """One sentence for people about ``reason``."""
    frames: int | None = None
    """Of the whole video: whether all its clips have records is so known without measuring it again. The first records
    do not say, nor do those of videos that could not be measured."""
    model_sha: str
    config_sha: str

    @model_validator(mode="after")
    def _reason_iff_quarantined(self) -> Self:
        if (self.reason is not None) != (self.status is ClipStatus.QUARANTINED):
            raise ValueError(f"a quarantined clip needs a reason, and only it has one: {self.status}, {self.reason}")
        if (self.data_uri is None) != (self.sha256 is None) or (self.data_uri is None and self.rows):
            raise ValueError("rows, data_uri and sha256 must be given together")
        return self

    @property
    def key(self) -> str:
        """``<video key>/<clip key>``, the record's place below ``records/``."""
        return f"{self.video.key}/{self.start:09d}-{self.stop:09d}"


def as_rows(table: pa.Table) -> pa.Table:
    """``table`` cast to ROWS; columns of later versions than the one that wrote it are null."""
    for name in LATER:
        if name not in table.column_names:
            field = ROWS.field(name)
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(ROWS.names).cast(ROWS)


def check_rows(table: pa.Table, place: str) -> pa.Table:
    """Return ``table`` cast to ROWS; ConfigError names the column that is missing, unknown or of a wrong type."""
    unknown = sorted(set(table.column_names) - set(ROWS.names))
    missing = sorted(set(ROWS.names) - set(table.column_names) - set(LATER))
    if unknown or missing:
        raise ConfigError(f"not the row schema: missing {missing}, unknown {unknown}", place=place)
    with arrow_errors("not the row schema", place):
        return as_rows(table)


@contextmanager
def arrow_errors(what: str, place: str) -> Iterator[None]:
    """ConfigError with ``what`` for values that Arrow cannot bring into their column's type."""
    try:
        yield
    except (pa.ArrowNotImplementedError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise ConfigError(f"{what}: {error}", place=place) from None


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()

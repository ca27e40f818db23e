"""What requests may choose, and the JSON that the routes answer with, as OpenAPI and the client show them."""

from enum import StrEnum
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from specktrack.config import Config
from specktrack.models.entry import Family
from specktrack.schema import MEANINGS, Box, Prompt, Provenance, Visibility
from specktrack.tracking.following import Reading


class Row(Config):
    """Where the object is in one frame."""

    frame: int = Field(description=MEANINGS["frame"], examples=[118])
    pts_s: float = Field(description=MEANINGS["pts_s"], examples=[3.933])
    object: int = Field(description=MEANINGS["object"])
    x: float | None = Field(description=MEANINGS["x"], examples=[612.4])
    y: float | None = Field(description=MEANINGS["y"], examples=[207.9])
    w: float | None = Field(description=MEANINGS["w"])
    h: float | None = Field(description=MEANINGS["h"])
    visibility: Visibility = Field(description=MEANINGS["visibility"])
    score: float | None = Field(description=MEANINGS["score"], examples=[0.93])
    provenance: Provenance = Field(description=MEANINGS["provenance"])
    gap: int = Field(description=MEANINGS["gap"])
    kind: str | None = Field(description=MEANINGS["kind"], examples=["drone"])
    kind_score: float | None = Field(description=MEANINGS["kind_score"], examples=[0.97])


class LiveRow(Row):
    """A row of a stream."""

    final: bool = True
    """Whether no later picture can change it; one that is not is told again."""


class Facts(Config):
    """What is known of a clip before its rows."""

    video: str
    """The name the clip came under, or its URI."""
    model: str
    model_sha256: str
    """Of network and weights."""
    fps: float
    """Frames per second."""
    width: int
    """Source px."""
    height: int
    """Source px."""
    frames: int
    """Of the whole video."""


class Annotation(Facts):
    """One clip's rows."""

    decode_errors: int
    """Errors that the decoder logged and went on after."""
    rows: list[Row]


class Event(Config):
    """A line of an ``application/x-ndjson`` answer that is no row."""

    event: Literal["clip", "progress", "end", "problem"]
    """clip comes first, with the fields of Facts; end or problem comes last."""
    done: int | None = None
    """Frames whose rows were told."""
    frames: int | None = None
    """Frames that are asked for."""
    left_s: float | None = None
    """Seconds that the rest will take at the pace so far."""


class Rows(Config):
    """Rows of a session that are final now."""

    rows: list[Row]


class OpenedSession(Config):
    """A session that takes frames."""

    id: str
    model: str
    idle_s: float
    """Without a frame for so many seconds it is closed."""
    rows: list[Row]


class ModelInfo(Config):
    """One model that requests may name."""

    name: str
    """What a request calls it: the name in its card."""
    family: Family
    takes_prompt: bool = False
    """Whether it follows only what a box shows: that of a session, or a clip's prompt."""
    frames_in: int
    """Frames that one forward pass sees."""
    frames_out: int
    """Frames that it draws."""
    input_wh: tuple[int, int]
    """Network px for a 16:9 video."""
    parameters: int
    sha256: str
    """Of network and weights."""
    description: str = ""


class Asked(Reading):
    """What a request may choose; the server's own settings stand for all that it leaves out."""

    model: str | None = Field(default=None, max_length=200)
    """A name from GET /v1/models; the first by default."""

    def over(self, other: Self) -> Self:
        """What this request and ``other`` chose; this one wins."""
        names = set(type(self).model_fields)
        chosen = [asked.model_dump(include=names, exclude_unset=True) for asked in (other, self)]
        return type(self).model_validate(chosen[0] | chosen[1])


class Wanted(NamedTuple):
    """The rows of a clip that are wanted."""

    start: int = 0
    stop: int | None = None
    """One past the last frame; None: the end of the video."""
    prompts: tuple[Prompt, ...] = ()
    """The objects to follow, in both directions from their boxes; none: whatever the model finds."""


class ClipAsked(Asked):
    """What a request for a clip may choose."""

    start: int = Field(default=0, ge=0)
    """First frame whose row is wanted; the rows are those of the whole video."""
    stop: int | None = Field(default=None, ge=1)
    """One past the last frame whose row is wanted; the end of the video by default."""
    prompt: tuple[str, ...] = Field(default=(), max_length=64)
    """The object to follow: frame,cx,cy,w,h in source px and, where one object has several, its number. Several are
    several objects. Models that take a box need one; to the others it says which object is meant."""

    @property
    def is_whole(self) -> bool:
        """Whether all rows are wanted of what the model finds by itself, as a batch gives them."""
        return (self.start, self.stop, self.prompt) == (0, None, ())

    @field_validator("prompt", mode="before")
    @classmethod
    def _prompts(cls, value: Any) -> Any:
        """One text, as a form has it."""
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _some_frames(self) -> Self:
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"no frames from start={self.start} to stop={self.stop}")
        return self


class StreamAsked(Asked):
    """The query of a stream."""

    fps: float | None = Field(default=None, gt=0, le=1000)
    """Pictures per second; by default they have the times of their arrival."""
    source: str | None = Field(default=None, max_length=4096)
    """A camera that the server watches, in place of pictures that the client sends: an rtsp or http address of one of
    its ``access.cameras``, or one of its ``access.devices``."""
    drop: Literal["none", "newest"] | None = None
    """What happens to pictures that come faster than they are followed: none waits for them; newest keeps the newest,
    so that rows stay near the present, and counts the others, which have no row. newest is the default for a source."""
    provisional: bool = False
    """Tell rows as soon as a window has seen their picture, and again when they are final."""

    @property
    def drops(self) -> bool:
        """Whether pictures are dropped."""
        return self.drop == "newest" or (self.drop is None and self.source is not None)


class AnnotateUri(ClipAsked):
    """A clip that the server fetches."""

    uri: str = Field(min_length=1, max_length=4096)
    """https://, s3:// or a path below the server's sources; each only where the operator allowed it."""


class BatchAsked(Asked):
    """What a request for a batch may choose."""

    output: str | None = Field(default=None, min_length=1, max_length=1000)
    """Folder or prefix below the server's ``access.outputs``; by default one of the batch's own."""
    overlay: bool = False
    """Also draw the trajectory onto each video."""
    webhook: str | None = Field(default=None, max_length=4096)
    """https URL of one of the server's ``access.webhooks`` that is told when the batch has ended."""


class BatchRequest(BatchAsked):
    """Videos for a batch."""

    sources: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """Videos, folders, globs or s3:// prefixes below the server's ``access.sources``."""


class BatchState(StrEnum):
    """Where a batch is."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing more happens."""
        return self in (BatchState.DONE, BatchState.FAILED, BatchState.CANCELLED)


class Batch(Config):
    """How far a batch is, or how it ended."""

    id: str
    state: BatchState = BatchState.QUEUED
    sources: tuple[str, ...]
    """As the request named them, or the names of the clips that it sent."""
    output: str
    """As the request named it."""
    model: str
    reading: Reading | None = None
    """How its videos are read; null in the record of a server that knew no choice, which read them by its default."""
    overlay: bool = False
    """Whether each video is drawn, too."""
    created_s: float
    """Seconds since 1970."""
    clips: int = 0
    """Pieces of work, known once the videos are measured."""
    done: int = 0
    """Clips with rows, or set aside."""
    frames: int = 0
    """Frames followed by the run at work; those of clips that an earlier one completed are not counted again."""
    frames_planned: int = 0
    """Frames that this run has to follow."""
    quarantined: dict[str, int] = {}
    """Clips set aside, by reason."""
    rows: int = 0
    """Rows in all, once the batch is done."""
    error: str | None = None
    """Why it failed."""


class Batches(Config):
    """A page of the list of batches, newest first."""

    batches: list[Batch]
    next: str | None = None
    """``after`` of the next page; null on the last."""


class BoxesField(Config):
    """The ``box`` field of a new session, as JSON: one box, centre and size in source px, or a list of them."""

    boxes: tuple[Box, ...] = Field(min_length=1, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _of_one_or_several(cls, value: Any) -> Any:
        return {"boxes": value if isinstance(value, list) else [value]}

    @staticmethod
    def as_sent() -> dict[str, Any]:
        """The schema of what a request holds."""
        one = Box.model_json_schema()
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 64}]}


class Health(Config):
    """Whether the server lives, or is ready."""

    status: str

"""Options of requests, and the JSON answers of the routes, as shown in OpenAPI and the client."""

from enum import StrEnum
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from specktrack.config import Config
from specktrack.models.entry import Family
from specktrack.schema import MEANINGS, Box, Prompt, Provenance, Visibility
from specktrack.tracking.following import Reading


class Row(Config):
    """Position of the object in one frame."""

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
    """Whether the row is final; otherwise it is sent again."""


class Facts(Config):
    """Facts about a clip, sent before its rows."""

    video: str
    """Name of the clip, or its URI."""
    model: str
    model_sha256: str
    """Hash of the network and weights."""
    fps: float
    """Frames per second."""
    width: int
    """Source px."""
    height: int
    """Source px."""
    frames: int
    """Frames in the whole video."""


class Annotation(Facts):
    """One clip's rows."""

    decode_errors: int
    """Errors that the decoder logged and recovered from."""
    rows: list[Row]


class Event(Config):
    """A line of an ``application/x-ndjson`` answer that is not a row."""

    event: Literal["clip", "progress", "end", "problem"]
    """clip comes first, with the fields of Facts; end or problem comes last."""
    done: int | None = None
    """Frames whose rows were sent."""
    frames: int | None = None
    """Frames requested."""
    left_s: float | None = None
    """Estimated seconds left at the current rate."""


class Rows(Config):
    """Rows of a session that are now final."""

    rows: list[Row]


class OpenedSession(Config):
    """An open session."""

    id: str
    model: str
    idle_s: float
    """The session is closed after this many seconds without a frame."""
    rows: list[Row]


class ModelInfo(Config):
    """A model that requests can choose."""

    name: str
    """The name used in requests: the name in its card."""
    family: Family
    takes_prompt: bool = False
    """Whether it needs a box, from a session or from a clip's prompt."""
    frames_in: int
    """Frames in the input of one forward pass."""
    frames_out: int
    """Frames in its output."""
    input_wh: tuple[int, int]
    """Input size for a 16:9 video, network px."""
    parameters: int
    sha256: str
    """Hash of the network and weights."""
    description: str = ""


class Asked(Reading):
    """Options of a request; the server's own settings apply to all that are not given."""

    model: str | None = Field(default=None, max_length=200)
    """A name from GET /v1/models; by default the first."""

    def over(self, other: Self) -> Self:
        """The options of this request and of ``other``; this one wins."""
        names = set(type(self).model_fields)
        chosen = [asked.model_dump(include=names, exclude_unset=True) for asked in (other, self)]
        return type(self).model_validate(chosen[0] | chosen[1])


class Wanted(NamedTuple):
    """The rows of a clip that are wanted."""

    start: int = 0
    stop: int | None = None
    """One past the last frame; None means the end of the video."""
    prompts: tuple[Prompt, ...] = ()
    """The objects to follow, in both directions from their boxes; if empty, whatever the model finds."""


class ClipAsked(Asked):
    """Options of a request for a clip."""

    start: int = Field(default=0, ge=0)
    """First frame to return; its rows are the same as when the whole video is returned."""
    stop: int | None = Field(default=None, ge=1)
    """One past the last frame to return; by default the end of the video."""
    prompt: tuple[str, ...] = Field(default=(), max_length=64)
    """The object to follow: frame,cx,cy,w,h in source px, and the object's number if it has several prompts. Several
    prompts are several objects. Models that take a box need one; for the others it chooses between several objects."""

    @property
    def is_whole(self) -> bool:
        """Whether all rows are requested and no prompts, as in a batch."""
        return (self.start, self.stop, self.prompt) == (0, None, ())

    @field_validator("prompt", mode="before")
    @classmethod
    def _prompts(cls, value: Any) -> Any:
        """Accept a single text, as in a form."""
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _some_frames(self) -> Self:
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"no frames from start={self.start} to stop={self.stop}")
        return self


class StreamAsked(Asked):
    """Query parameters of a stream."""

    fps: float | None = Field(default=None, gt=0, le=1000)
    """Pictures per second; by default their times are their times of arrival."""
    source: str | None = Field(default=None, max_length=4096)
    """A camera that the server reads, instead of pictures from the client: an rtsp or http address of one of its
    ``access.cameras``, or one of its ``access.devices``."""
    drop: Literal["none", "newest"] | None = None
    """Handling of pictures that arrive faster than they are processed: none makes them wait; newest keeps the newest,
    so that rows stay close to real time, and counts the dropped ones, which have no row. newest is the default for a
    source."""
    provisional: bool = False
    """Send rows as soon as a window has seen their picture, and again when they are final."""

    @property
    def drops(self) -> bool:
        """Whether pictures are dropped."""
        return self.drop == "newest" or (self.drop is None and self.source is not None)


class AnnotateUri(ClipAsked):
    """A clip that the server fetches."""

    uri: str = Field(min_length=1, max_length=4096)
    """https://, s3:// or a path under the server's sources, each only if the operator allowed it."""


class BatchAsked(Asked):
    """Options of a request for a batch."""

    output: str | None = Field(default=None, min_length=1, max_length=1000)
    """Folder or prefix under the server's ``access.outputs``; by default one is created for the batch."""
    overlay: bool = False
    """Also write each video with the trajectory drawn on it."""
    webhook: str | None = Field(default=None, max_length=4096)
    """https URL on one of the server's ``access.webhooks`` hosts, called when the batch has ended."""


class BatchRequest(BatchAsked):
    """Videos for a batch."""

    sources: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """Videos, folders, globs or s3:// prefixes under the server's ``access.sources``."""


class BatchState(StrEnum):
    """State of a batch."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the state is final."""
        return self in (BatchState.DONE, BatchState.FAILED, BatchState.CANCELLED)


class Batch(Config):
    """Progress of a batch, or its result."""

    id: str
    state: BatchState = BatchState.QUEUED
    sources: tuple[str, ...]
    """As named in the request, or the names of the uploaded clips."""
    output: str
    """As named in the request."""
    model: str
    reading: Reading | None = None
    """Reading settings; null in records of servers without this choice, which used their defaults."""
    overlay: bool = False
    """Whether videos with the trajectory are also written."""
    created_s: float
    """Seconds since 1970."""
    clips: int = 0
    """Number of clips, known once the videos are measured."""
    done: int = 0
    """Clips completed or set aside."""
    frames: int = 0
    """Frames processed by the current run; clips completed by an earlier run are not counted again."""
    frames_planned: int = 0
    """Frames that this run has to process."""
    quarantined: dict[str, int] = {}
    """Clips set aside, by reason."""
    rows: int = 0
    """Total rows, once the batch is done."""
    error: str | None = None
    """Reason of the failure."""


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
        """The schema of a request's contents."""
        one = Box.model_json_schema()
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 64}]}


class Health(Config):
    """Whether the server is alive or ready."""

    status: str

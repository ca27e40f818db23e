"""What requests may choose, and the JSON that the routes answer with, as OpenAPI shows them."""

from typing import Any

from pydantic import Field, model_validator

from specktrack.config import Config
from specktrack.schema import Box
from specktrack.tracking.following import Reading


class Row(Config):
    """Where the object is in one frame; x, y, w and h in source px, null where it is absent or not known."""

    frame: int
    pts_s: float
    object: int
    x: float | None
    y: float | None
    w: float | None
    h: float | None
    visibility: str
    score: float | None
    provenance: str
    gap: int


class Annotation(Config):
    """One clip's rows."""

    video: str
    """The name the clip came under, or its URI."""
    model: str
    model_sha256: str
    fps: float
    width: int
    height: int
    frames: int
    decode_errors: int
    rows: list[Row]


class Rows(Config):
    """Rows of a session that are final now."""

    rows: list[Row]


class OpenedSession(Config):
    """A session that takes frames."""

    id: str
    model: str
    idle_s: float
    """Without a frame for so long it is closed."""
    rows: list[Row]


class Asked(Reading):
    """What a request may choose; the server's own settings stand for all that it leaves out."""

    model: str | None = Field(default=None, max_length=200)
    """A name from GET /v1/models; the first by default."""

    def over(self, other: "Asked") -> "Asked":
        """What this request and ``other`` chose; this one wins."""
        names = set(Asked.model_fields)
        chosen = [asked.model_dump(include=names, exclude_unset=True) for asked in (other, self)]
        return Asked.model_validate(chosen[0] | chosen[1])


class StreamAsked(Asked):
    """The query of a stream."""

    fps: float | None = Field(default=None, gt=0, le=1000)
    """Pictures per second; by default they have the times of their arrival."""


class AnnotateUri(Asked):
    """A clip that the server fetches."""

    uri: str = Field(min_length=1, max_length=4096)
    """https://, s3:// or a path below the server's sources; each only where the operator allowed it."""


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

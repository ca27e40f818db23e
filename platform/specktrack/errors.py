"""The errors that specktrack raises for users, and the effect of each.

    SpecktrackError
    ├── ConfigError        refuse: exit code 2, HTTP 422
    │   └── LabelError     a label file that cannot be read as its format: names file and line
    ├── CheckpointError    exit code 3: a model or its weights are missing, damaged or of another kind
    ├── StorageError       exit code 4, HTTP 503: retried with jitter before it is raised
    ├── MediaError         quarantine the clip with its reason and go on (exit code 5 at the end)
    └── Conflict           another writer won: not a failure

Every message says what, value, place and remedy. Every exception hands all its arguments to ``Exception.__init__``
and makes its text in ``__str__``: otherwise it does not survive pickling, and Ray cannot carry it.
"""

from enum import StrEnum


class QuarantineReason(StrEnum):
    """Why a clip was set aside: a closed list, so that reports can count it."""

    EMPTY = "empty"
    """The object has no bytes."""
    NOT_A_VIDEO = "not_a_video"
    """No container format is recognised in the bytes."""
    NO_VIDEO_STREAM = "no_video_stream"
    """A container without a video stream (audio only, say)."""
    NO_FRAMES = "no_frames"
    """A video stream from which no frame can be decoded."""
    UNSUPPORTED_CODEC = "unsupported_codec"
    """No decoder for the stream's codec."""
    TRUNCATED = "truncated"
    """The bytes end before the frames that the container promises."""
    DAMAGED = "damaged"
    """More decoding errors than the limit allows."""
    SIZE_CHANGED = "size_changed"
    """The picture changes its size inside the stream."""
    CHANGED = "changed"
    """The object was replaced while it was read (another ETag or size)."""
    UNREADABLE = "unreadable"
    """The store lists the object and does not give out its bytes (permissions, an archive class, a bad sector)."""
    TOO_LARGE = "too_large"
    """Beyond a ceiling: pixels, frames, seconds or bytes."""
    TIMEOUT = "timeout"
    """Decoding did not move on within its time."""
    CRASHED = "crashed"
    """The worker that decoded it died, again and again."""


class SpecktrackError(Exception):
    """Base of all errors meant for people: what happened, the value, the place, the remedy."""

    exit_code = 1

    def __init__(self, what: str, value: object = None, place: str = "", remedy: str = "") -> None:
        super().__init__(what, value, place, remedy)
        self.what, self.value, self.place, self.remedy = what, value, place, remedy

    def __str__(self) -> str:
        text = self.what
        if self.value is not None:
            text += f": {self.value!r}"
        if self.place:
            text += f" ({self.place})"
        if self.remedy:
            text += f"; {self.remedy}"
        return text


class ConfigError(SpecktrackError):
    """A setting, option or request that cannot be carried out as asked."""

    exit_code = 2


class LabelError(ConfigError):
    """A label file that does not follow its format."""


class CheckpointError(SpecktrackError):
    """A model, its weights or its card are missing, damaged or of another kind."""

    exit_code = 3


class StorageError(SpecktrackError):
    """Object storage or the file system did not do what was asked, also after retries."""

    exit_code = 4


class Conflict(SpecktrackError):
    """Another writer committed first; its result stands."""


class MediaError(SpecktrackError):
    """A video that cannot be used as it is; the clip is quarantined with ``reason``."""

    exit_code = 5

    def __init__(
        self, reason: QuarantineReason, what: str, value: object = None, place: str = "", remedy: str = ""
    ) -> None:
        super().__init__(what, value, place, remedy)
        self.args = (reason, what, value, place, remedy)  # what pickle hands back to __init__
        self.reason = QuarantineReason(reason)

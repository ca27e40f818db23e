"""Settings of an annotate run, and its report."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, computed_field, field_validator, model_validator

from specktrack.config import Config, VerbConfig
from specktrack.errors import MediaError, StorageError
from specktrack.storage.places import Names, Place, SourcePlace
from specktrack.tracking.following import Following

PROMPT_FILES = (".csv", ".json")
PromptPlace = Annotated[str, Names(is_word=lambda text: not text.lower().endswith(PROMPT_FILES))]
"""A prompt as text, or the file that holds some."""


class AnnotateConfig(VerbConfig, Following):
    """Follow the object through videos and write one row per frame."""

    verb: ClassVar[str] = "annotate"

    sources: tuple[SourcePlace, ...] = ()
    """Videos, folders, globs, s3://bucket/prefix or @list.txt. At least one is required, except with ``gc`` and
    ``verify``."""
    output: Place
    """Folder or s3:// prefix for rows and records. If it has an interrupted run, that run is resumed."""
    live: Place | None = None
    """Follow a camera until interrupted, instead of sources: an rtsp:// or http(s):// address, or a device such as
    /dev/video0. Rows are appended to ``output``, a .jsonl file or /dev/stdout, as they become final."""
    prompt: tuple[PromptPlace, ...] = ()
    """The object to follow: frame,cx,cy,w,h in source px, and the object's number if it has several prompts; or a CSV
    or JSON file of prompts. Several prompts are several objects. Template models need a prompt; for heatmap models it
    chooses between several objects."""
    stream: int | None = Field(default=None, ge=0)
    """Number of the video stream to read, if a file has several; by default the best one, as in video players."""
    overlay: bool = False
    """Also write each video with the trajectory drawn on it."""
    dry_run: bool = False
    """Measure the videos, plan the clips and try some of them; report what would be done and how long it would take.
    Writes nothing."""
    price: float | None = Field(default=None, ge=0)
    """Cost of a worker per hour, in any currency; a dry run then reports the cost of the run."""
    resume: bool = True
    """Keep completed clips of the output; otherwise delete the output and start over."""
    retry_quarantined: bool = False
    """Retry clips that were set aside."""
    single_writer: bool = False
    """Promise that nobody else writes to this output: for S3 servers without conditional writes and file systems
    without hard links."""
    verify: bool = False
    """Check that the rows of every record in the output exist, are complete and unchanged. Clips that fail are redone
    if their sources are given, otherwise only reported."""
    gc: bool = False
    """Only delete what crashed writers left in the output more than a day ago; annotate nothing."""
    address: str | None = None
    """Ray cluster: auto (RAY_ADDRESS, or one running here, else a new one), local, or ray://host:port. By default, this
    process does the work if that is faster than starting a cluster; otherwise as with auto."""
    workers: int | None = Field(default=None, ge=1)
    """Maximum number of actors; by default as many as the cluster has room for."""
    clip_s: float = Field(default=20.0, gt=0)
    """Seconds of video per clip: long enough to amortise the lead-in, short enough to distribute and to redo."""
    timeout_s: float = Field(default=120.0, gt=0)
    """A clip is set aside if its next frames are not decoded within this time."""

    @field_validator("sources", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("prompt", mode="before")
    @classmethod
    def _prompts(cls, value: Any) -> Any:
        """One text, as configurations of version 0.1 have it, or none."""
        return () if value is None else (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.live is not None and self.sources:
            raise ValueError("live follows one camera: give no sources")
        if not self.sources and not self.gc and not self.verify and self.live is None:
            raise ValueError("sources: name at least one video, folder, glob, s3:// prefix or @list.txt")
        return self


class Estimate(Config):
    """Estimated cost of annotating, from a trial of a few of its clips; overlays are not counted."""

    frames: int
    seconds: float | None
    """From the first worker's start to the last record; None where no trial could be read."""
    frames_per_s: float | None
    workers: int
    """At work at a time."""
    worker_hours: float | None
    cost: float | None
    """In the currency of ``price``; None without one."""


class AnnotateReport(Config):
    """Result of a run; the counts are of the clips that its sources name."""

    output: str
    videos: int
    clips: int
    committed: int = 0
    """Clips that were completed now."""
    resumed: int = 0
    """Clips that were complete already."""
    repeated: int = 0
    """Attempts beyond a clip's first in this run: the workers, or their nodes, died over those before."""
    without_overlay: int = 0
    """Videos that have rows and whose overlay could not be drawn; the log says why."""
    quarantined: dict[str, int] = {}
    """Clips set aside, now or before, by reason; a video that could not be read at all counts as one."""
    damaged: int = 0
    """Clips of which ``verify`` found rows lost or changed, and which were not done again."""
    removed: int = 0
    """Objects removed by ``gc``."""
    planned_frames: int = 0
    """Frames of the clips that were not complete at the start."""
    estimate: Estimate | None = None
    """The estimates of a dry run."""
    frames: int = 0
    """Frames annotated now."""
    rows: int = 0
    """Rows of all clips that the sources name."""
    wall_s: float = 0.0
    frames_per_s: float = 0.0
    """From the first actor's start to the last record."""
    seconds: dict[str, float] = {}
    """Wall time per stage of the driver (plan, annotate, overlay), and work time per stage summed over actors."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        """0, 4 where rows are lost, or 5 where clips were set aside."""
        if self.damaged:
            return StorageError.exit_code
        return MediaError.exit_code if self.quarantined else 0

"""Settings of ``data prepare``, and its report."""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, computed_field

from specktrack.config import Config, VerbConfig
from specktrack.errors import MediaError
from specktrack.storage.places import Place

PACK_FORMAT = "pack-1"


class PrepareConfig(VerbConfig):
    """Cut labelled videos into packs of pictures for streaming to training."""

    verb: ClassVar[str] = "data_prepare"

    data: Place
    """The dataset, or a folder in a known format."""
    destination: Place
    """The folder or s3:// prefix for the packs. If it has an interrupted run, that run is resumed."""
    input_wh: tuple[PositiveInt, PositiveInt] = (512, 288)
    """The network's input_wh; pictures of other aspect ratios keep its area."""
    own_size: bool = False
    """Keep the size of the videos instead, for training template networks."""
    pictures: Literal["exact", "jpeg"] = "exact"
    """How pictures are stored: exact pixels, or JPEG at quality 95 in a fraction of the space."""
    clip_s: float = Field(default=4.0, gt=0)
    """Seconds of video in one pack."""
    resume: bool = True
    """Keep what is complete in the destination; otherwise delete it and start over."""
    retry_quarantined: bool = False
    """Retry clips that were set aside."""
    single_writer: bool = False
    """Promise that nobody else writes there: for S3 servers without conditional writes and file systems without hard
    links."""
    address: str | None = None
    """Ray cluster: auto, local or an address. By default, small jobs run in this process, larger ones as with auto."""
    workers: int | None = Field(default=None, ge=1)
    """Maximum number of actors; by default as many as the cluster has room for."""
    timeout_s: float = Field(default=120.0, gt=0)
    """A clip is set aside if its next frames are not decoded within this time."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the packs, besides the videos: runs with equal settings share them."""
        size = {"input_wh": None if self.own_size else list(self.input_wh)}
        return {"format": PACK_FORMAT, **size, "pictures": self.pictures, "clip_s": self.clip_s}


class PrepareReport(Config):
    """Report of a run; the counts are of the clips of its dataset."""

    destination: str
    videos: int
    clips: int
    committed: int = 0
    """Clips that were completed now."""
    resumed: int = 0
    """Clips that were complete already."""
    quarantined: dict[str, int] = {}
    """Clips set aside, now or before, by reason; their labels are left out of training."""
    frames: int = 0
    """Frames packed now."""
    frames_per_s: float = 0.0
    size_bytes: int = 0
    """Of all packs."""
    wall_s: float = 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        """0, or 5 where clips were set aside."""
        return MediaError.exit_code if self.quarantined else 0

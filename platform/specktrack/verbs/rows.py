"""``specktrack export`` and ``specktrack render``: rows as another tool's files, and drawn onto their video."""

import tempfile
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from specktrack import datasets, overlay
from specktrack.config import Config, VerbConfig
from specktrack.datasets.exports import EXPORTS, POINT_BOX_PX
from specktrack.datasets.formats import writable
from specktrack.datasets.row_files import check_frames, store_of
from specktrack.datasets.rows import read_rows, rows_of
from specktrack.errors import ConfigError
from specktrack.rallies import analyse
from specktrack.storage import stat, to_uri
from specktrack.storage.places import Names, Place
from specktrack.verbs.events import check_court, court_field, read_court
from specktrack.video import probe

VideoName = Annotated[str, Names(is_word=lambda text: "/" not in text)]
"""A video among rows: its URI, its path or its file name."""


class ExportConfig(VerbConfig):
    """Write rows in another tool's format."""

    verb: ClassVar[str] = "export"

    annotations: Place
    """An output of annotate, or a .parquet, .csv or .jsonl file of rows."""
    to: str = Field(
        description=f"{', '.join(writable())}; what each cannot hold is in docs/data.md.",
        json_schema_extra={"enum": list[Any](writable())},
    )
    destination: Place
    """The folder, or the file where there is one to write."""
    video: VideoName | None = None
    """Only the rows of this video (its URI, path or file name)."""
    box_px: PositiveFloat = POINT_BOX_PX
    """Side of the square that stands for a point in formats of boxes."""
    size_wh_px: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height of the pictures, for formats that need them where the videos cannot be read."""
    stream: NonNegativeInt | None = None
    """Number of the video stream that the rows are of, where a file has several; the default takes the best."""


class ExportReport(Config):
    """The files that were written."""

    rows: int
    written: tuple[str, ...]
    """URIs."""


def export(config: ExportConfig) -> ExportReport:
    """Export rows; what was written."""
    rows = read_rows(config.annotations)
    if config.video is not None:
        rows = rows_of(rows, config.video, config.annotations)
    needs_size = config.to in EXPORTS and EXPORTS[config.to].needs_size
    sizes_wh_px = _sizes_wh_px(config, rows) if needs_size else {}
    written = datasets.export_rows(rows, config.to, config.destination, sizes_wh_px=sizes_wh_px, box_px=config.box_px)
    return ExportReport(rows=rows.num_rows, written=tuple(written))


def _sizes_wh_px(config: ExportConfig, rows: pa.Table) -> dict[str, tuple[int, int]]:
    """Each video's size: as given, or as it is."""
    uris = pc.unique(rows["video"]).to_pylist()
    return {uri: config.size_wh_px or probe(stat(uri, stream=config.stream)).size_wh_px for uri in uris}


class RenderConfig(VerbConfig, overlay.OverlayStyle):
    """Draw rows onto their video."""

    verb: ClassVar[str] = "render"

    video: Place
    """The video."""
    annotations: Place
    """An output of annotate, or a .parquet, .csv or .jsonl file of rows."""
    output: Place
    """The MP4 file to write, in a folder or S3."""
    stream: NonNegativeInt | None = None
    """Number of the video stream that the rows are of, where the file has several; the default takes the best."""
    events: bool = False
    """Show hits, bounces and the ball's speed, found in the rows."""
    court: str | None = court_field()
    corners: Place | None = None
    """File of the court's corners, as ``events`` takes it, for speeds in m/s and net crossings."""

    @model_validator(mode="after")
    def _court_with_events(self) -> Self:
        check_court(self.court, self.corners)
        if self.court is not None and not self.events:
            raise ValueError("court goes with events")
        return self


class RenderReport(Config):
    """The video that was drawn."""

    output: str
    """Its URI."""
    rows: int
    bytes: int


def render_video(config: RenderConfig) -> RenderReport:
    """Render an overlay video; it appears when it is complete."""
    output = to_uri(config.output)
    if not output.lower().endswith(".mp4"):
        raise ConfigError("an overlay is written as .mp4", config.output, remedy="give a name that ends in .mp4")
    video = stat(config.video, stream=config.stream)
    rows = rows_of(read_rows(config.annotations), config.video, config.annotations)
    check_frames(rows, probe(video).frames, config.annotations)
    store, key = store_of(output)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, "overlay.mp4")
        overlay.render(video, rows, drawn, style=config, told=_told(config, rows))
        store.put_file(key, drawn)
        return RenderReport(output=output, rows=rows.num_rows, bytes=drawn.stat().st_size)


def _told(config: RenderConfig, rows: pa.Table) -> dict[int, overlay.Told]:
    if not config.events:
        return {}
    found = analyse(rows, court=read_court(config.court, config.corners))
    return overlay.told_by(found.events, found.flights)

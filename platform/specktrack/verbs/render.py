"""``specktrack render``: rows drawn on their video."""

import tempfile
from pathlib import Path
from typing import ClassVar, Self

import pyarrow as pa
from pydantic import NonNegativeInt, model_validator

from specktrack import overlay
from specktrack.config import Config, VerbConfig
from specktrack.datasets.row_files import check_frames, store_of
from specktrack.datasets.rows import read_rows, rows_of
from specktrack.errors import ConfigError
from specktrack.rallies import analyse
from specktrack.storage import stat, to_uri
from specktrack.storage.places import Place
from specktrack.verbs.events import check_court, court_field, read_court
from specktrack.video import probe


class RenderConfig(VerbConfig, overlay.OverlayStyle):
    """Draw rows on their video."""

    verb: ClassVar[str] = "render"

    video: Place
    """The video."""
    annotations: Place
    """An output of annotate, or a .parquet, .csv or .jsonl file of rows."""
    output: Place
    """The MP4 file to write, in a folder or S3."""
    stream: NonNegativeInt | None = None
    """Number of the video stream of the rows, if the file has several; by default the best."""
    events: bool = False
    """Show hits, bounces and the speed of the ball, computed from the rows."""
    court: str | None = court_field()
    corners: Place | None = None
    """Corners file, as for ``events``, for speeds in m/s and net crossings."""

    @model_validator(mode="after")
    def _court_with_events(self) -> Self:
        check_court(self.court, self.corners)
        if self.court is not None and not self.events:
            raise ValueError("court needs events")
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
        raise ConfigError(
            "the name of an overlay must end in .mp4", config.output, remedy="give a name that ends in .mp4"
        )
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

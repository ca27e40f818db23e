"""``specktrack export``: rows in the formats of other tools."""

from typing import Annotated, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from specktrack import datasets
from specktrack.config import Config, VerbConfig
from specktrack.datasets.exports import EXPORTS, POINT_BOX_PX
from specktrack.datasets.formats import writable
from specktrack.datasets.rows import read_rows, rows_of
from specktrack.storage import stat
from specktrack.storage.places import Names, Place
from specktrack.video import probe

VideoName = Annotated[str, Names(is_word=lambda text: "/" not in text)]
"""A video among rows: its URI, its path or its file name."""


class ExportConfig(VerbConfig):
    """Export rows in the format of another tool."""

    verb: ClassVar[str] = "export"

    annotations: Place
    """An output of annotate, or a .parquet, .csv or .jsonl file of rows."""
    to: str = Field(
        description=f"{', '.join(writable())}; docs/data.md lists what each format cannot hold.",
        json_schema_extra={"enum": list[Any](writable())},
    )
    destination: Place
    """The folder to write, or the file, for formats that are a single file."""
    video: VideoName | None = None
    """Export only the rows of this video (its URI, path or file name)."""
    box_px: PositiveFloat = POINT_BOX_PX
    """Side of the square that represents a point in box formats."""
    size_wh_px: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height of the pictures, for formats that need them if the videos cannot be read."""
    stream: NonNegativeInt | None = None
    """Number of the video stream of the rows, if a file has several; by default the best."""


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

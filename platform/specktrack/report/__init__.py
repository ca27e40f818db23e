"""``specktrack report``: one HTML page about an output of annotate, a file of rows, or an evaluation."""

import io
import json
from typing import Any, ClassVar

import pyarrow.parquet as pq
from pydantic import Field

from specktrack import telemetry
from specktrack.config import Config, VerbConfig
from specktrack.datasets.row_files import store_of
from specktrack.datasets.rows import read_rows
from specktrack.errors import ConfigError
from specktrack.report.boxes import boxes_page
from specktrack.report.points import evaluation_page
from specktrack.report.rows import rows_page
from specktrack.storage import Store, local_path, open_store, to_uri
from specktrack.storage.places import Place

EVALUATION = "evaluation.json"
SEQUENCES = "sequences.parquet"


class ReportConfig(VerbConfig):
    """Write a self-contained HTML report about rows or an evaluation."""

    verb: ClassVar[str] = "report"

    source: Place
    """An output of annotate, a dataset, a .parquet, .csv or .jsonl file of rows, or the output of evaluate."""
    output: Place
    """The .html file to write, in a folder or S3."""
    videos: int = Field(default=24, ge=0)
    """Number of videos to draw, worst first; the tables list all."""
    pictures: bool = True
    """Show the picture where rows are wrong or uncertain; otherwise no video is read."""


class ReportSummary(Config):
    """The page that was written."""

    output: str
    """URI of the page."""
    about: str
    """rows, evaluation or boxes."""
    bytes: int


def report(config: ReportConfig) -> ReportSummary:
    """Write the page; it appears when it is complete. ConfigError if the source is neither rows nor an evaluation."""
    output = to_uri(config.output)
    if not output.lower().endswith(".html"):
        raise ConfigError(
            "the name of a report must end in .html", config.output, remedy="give a name that ends in .html"
        )
    found = _evaluation(config.source)
    if found is None:
        about, text = (
            "rows",
            rows_page(read_rows(config.source), config.source, drawn=config.videos, pictures=config.pictures),
        )
    else:
        store, content = found
        about = "boxes" if "trackers" in content else "evaluation"
        text = (
            boxes_page(content, _sequences(store))
            if about == "boxes"
            else evaluation_page(store, content, drawn=config.videos, pictures=config.pictures)
        )
    store, key = store_of(output)
    data = text.encode("utf-8", "backslashreplace")
    store.put(key, data)
    telemetry.get_logger().info("report written", output=output, about=about, bytes=len(data))
    return ReportSummary(output=output, about=about, bytes=len(data))


def _evaluation(source: str) -> tuple[Store, dict[str, Any]] | None:
    """The evaluation's folder and its report; None if the source is something else."""
    uri = to_uri(source)
    path = local_path(uri)
    if uri.endswith(f"/{EVALUATION}"):
        store = store_of(uri)[0]
    elif path is None or path.is_dir():
        store = open_store(uri)
    else:
        return None
    if not store.exists(EVALUATION):
        return None
    try:
        content = json.loads(store.get(EVALUATION))
        if not isinstance(content, dict) or "protocol" not in content:
            raise ValueError("it has no protocol")
    except ValueError as error:
        raise ConfigError(f"not an evaluation: {error}", place=store.uri_of(EVALUATION)) from None
    return store, content


def _sequences(store: Store) -> list[dict[str, Any]]:
    """The rows per sequence of an evaluation of box trackers."""
    if not store.exists(SEQUENCES):
        raise ConfigError(f"the evaluation's {SEQUENCES} is missing", store.uri, remedy="evaluate again")
    return pq.read_table(io.BytesIO(store.get(SEQUENCES))).to_pylist()

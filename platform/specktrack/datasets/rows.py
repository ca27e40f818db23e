"""Rows from wherever a person has them, by the names of their videos."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from specktrack import telemetry
from specktrack.datasets import load_dataset
from specktrack.datasets.row_files import rows_at
from specktrack.errors import ConfigError
from specktrack.storage import to_uri

_VIDEOS_SHOWN = 5


def read_rows(place: str) -> pa.Table:
    """Rows from an output of annotate, a Parquet, CSV or JSON Lines file, or a dataset (its labels as predictions)."""
    rows = rows_at(place)
    return load_dataset(to_uri(place)).rows if rows is None else rows


def pair_videos(labelled: Sequence[str], predicted: Sequence[str]) -> dict[str, str]:
    """Label video to prediction video: equal URI, else equal base name where that is unique on both sides."""
    pairs = {uri: uri for uri in labelled if uri in set(predicted)}
    open_labels = [uri for uri in labelled if uri not in pairs]
    free = [uri for uri in predicted if uri not in pairs]
    label_names, free_names = Counter(map(_base_name, open_labels)), {_base_name(uri): uri for uri in free}
    free_counts = Counter(map(_base_name, free))
    for uri in open_labels:
        name = _base_name(uri)
        if label_names[name] == free_counts[name] == 1:
            pairs[uri] = free_names[name]
    return pairs


def rows_of(rows: pa.Table, video: str, place: str) -> pa.Table:
    """The rows of one video, named by its URI or path, or by a file name that is unique among the rows.

    ConfigError lists the videos that there are.
    """
    uris = pc.unique(rows["video"]).to_pylist()
    uri = pair_videos([to_uri(video)], uris).get(to_uri(video))
    if uri is not None and uri != to_uri(video):
        telemetry.get_logger().info("rows taken by the video's name", video=to_uri(video), rows_of=uri)
    if uri is None:
        known = ", ".join(uris[:_VIDEOS_SHOWN]) + (", ..." if len(uris) > _VIDEOS_SHOWN else "")
        raise ConfigError("no rows of this video", video, place, f"there are rows of: {known or 'no video'}")
    return rows.filter(pc.equal(rows["video"], uri))


def _base_name(uri: str) -> str:
    """The last part of a URI or path without its suffix."""
    name = uri.rstrip("/").rpartition("/")[2]
    return name.rpartition(".")[0] or name

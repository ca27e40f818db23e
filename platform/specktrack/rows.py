"""Rows from wherever a person has them: an output of annotate, a Parquet or CSV file, or labels."""

import io
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError
from specktrack.ledger import read_annotations
from specktrack.schema import ROWS
from specktrack.storage import local_path, open_store, to_uri


def read_rows(place: str) -> pa.Table:
    """Rows from an output of annotate, a Parquet or CSV file, or a dataset (its labels taken as predictions)."""
    uri = to_uri(place)
    folder, _, name = uri.rpartition("/")
    if name.endswith((".parquet", ".csv")):
        data = io.BytesIO(open_store(folder).get(name))
        return _complete(_read_parquet(data, place) if name.endswith(".parquet") else _read_csv(data, place), place)
    path = local_path(uri)
    if path is not None and not path.is_dir():
        raise ConfigError("no predictions there", place, remedy="give an output of annotate, a Parquet or a CSV file")
    store = open_store(uri)
    if store.exists("_SUCCESS") or next(store.list("records/"), None) is not None:
        return read_annotations(uri)
    return load_dataset(uri).rows


def _read_parquet(data: io.BytesIO, place: str) -> pa.Table:
    try:
        return pq.read_table(data)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"not a Parquet file: {error}", place=place) from None


def _read_csv(data: io.BytesIO, place: str) -> pa.Table:
    try:
        return pyarrow.csv.read_csv(data)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"not a CSV file: {error}", place=place) from None


def _complete(table: pa.Table, place: str) -> pa.Table:
    """Fill the columns that a comparison does not need; ConfigError if video, frame, x or y is missing."""
    missing = [name for name in ("video", "frame", "x", "y") if name not in table.column_names]
    if missing:
        raise ConfigError("predictions lack columns", missing, place, "the row columns are video, frame, x, y, ...")
    present = pc.and_(pc.is_valid(table["x"]), pc.is_valid(table["y"]))
    fallback = {
        "object": pa.scalar(0, pa.int32()), "gap": pa.scalar(0, pa.int32()), "pts_s": pa.scalar(0.0),
        "visibility": pc.if_else(present, "clear", "absent"), "provenance": pa.scalar("detected"),
    }  # fmt: skip
    columns = {}
    for field in ROWS:
        column = table[field.name] if field.name in table.column_names else fallback.get(field.name)
        if column is None or isinstance(column, pa.Scalar):
            value = column if column is not None else pa.scalar(None, field.type)
            column = pa.chunked_array([pa.repeat(value, len(table))])
        columns[field.name] = column
    try:
        return pa.table(columns).cast(ROWS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise ConfigError(f"not rows: {error}", place=place) from None


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

    The only video's rows need no name. ConfigError lists the videos that there are.
    """
    uris = pc.unique(rows["video"]).to_pylist()
    pairs = pair_videos([to_uri(video)], uris)
    uri = pairs.get(to_uri(video)) or (uris[0] if len(uris) == 1 else None)
    if uri is None:
        raise ConfigError("no rows of this video", video, place, f"there are rows of: {', '.join(uris[:5])}")
    return rows.filter(pc.equal(rows["video"], uri))


def _base_name(uri: str) -> str:
    """The last part of a URI or path without its suffix."""
    name = uri.rstrip("/").rpartition("/")[2]
    return name.rpartition(".")[0] or name

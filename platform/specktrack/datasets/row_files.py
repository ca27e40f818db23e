"""Rows as they lie: an output of annotate, or a Parquet, CSV or JSON Lines file that any tool may have written."""

import csv
import io
import re
from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from specktrack.datasets.csv_labels import UNESCAPED, separator_of, text_of
from specktrack.errors import ConfigError
from specktrack.ledger import read_annotations
from specktrack.schema import ROWS, Provenance, Visibility, arrow_errors
from specktrack.storage import Store, local_path, open_store, to_uri


def _read_csv(data: io.BytesIO) -> pa.Table:
    """Columns in any case; separators, decimal marks and encodings as spreadsheets write them."""
    text = text_of(data.getvalue())
    mark, start = separator_of(text)
    text = text[start:]
    comma = mark != "," and re.search(rf"(^|{re.escape(mark)})-?\d+,\d+({re.escape(mark)}|$)", text, re.MULTILINE)
    header = next(csv.reader(io.StringIO(text), delimiter=mark), [])
    names = {name: name.strip().lower() for name in header if name.strip().lower() in (*ROWS.names, "window")}
    rows = pyarrow.csv.read_csv(
        io.BytesIO(text.encode()),
        # One thread: Arrow's reading threads can outlive the read and abort the process while it exits.
        pyarrow.csv.ReadOptions(use_threads=False),
        pyarrow.csv.ParseOptions(delimiter=mark),
        pyarrow.csv.ConvertOptions(
            # 00003 is a name, and an empty kind is none.
            column_types={name: pa.string() for name in names if names[name] in ("video", "kind")},
            decimal_point="," if comma else ".",
        ),
    )
    if len(set(names.values())) == len(names):
        rows = rows.rename_columns([names.get(name, name) for name in rows.column_names])
    for name in {"video", "kind"} & set(rows.column_names):
        texts = pc.replace_substring_regex(rows[name], UNESCAPED, r"\1")
        rows = rows.set_column(rows.column_names.index(name), name, texts)
    return rows


def _read_jsonl(data: io.BytesIO) -> pa.Table:
    return pyarrow.json.read_json(data, pyarrow.json.ReadOptions(use_threads=False))


_FILES: Mapping[str, tuple[str, Callable[[io.BytesIO], pa.Table]]] = {
    "parquet": ("Parquet", pq.read_table),
    "csv": ("CSV", _read_csv),
    "jsonl": ("JSON Lines", _read_jsonl),
}
"""Formats of files of rows, by suffix."""


def rows_at(place: str) -> pa.Table | None:
    """Rows of a file, or of an output of annotate; None for a folder that is neither. ConfigError, StorageError."""
    uri = to_uri(place)
    path = local_path(uri)
    kind = uri.rpartition(".")[2].lower()
    if kind in _FILES and not (path is not None and path.is_dir()):
        return _complete(_read_file(uri, place), place)
    if path is not None and not path.is_dir():
        raise ConfigError(
            "no rows found", place, remedy="give an output of annotate, or a .parquet, .csv or .jsonl file of rows"
        )
    store = open_store(uri)
    if store.exists("_SUCCESS") or next(store.list("records/"), None) is not None:
        return read_annotations(uri)
    return None


def rows_file_in(place: str, kind: str) -> str | None:
    """URI of ``rows.KIND`` in a folder, as an export names it; None if there is none."""
    uri = to_uri(place)
    if kind not in _FILES or uri.endswith(f".{kind}"):
        return None
    store = open_store(uri)
    return store.uri_of(f"rows.{kind}") if store.exists(f"rows.{kind}") else None


def read_windows(place: str) -> pa.Table:
    """Rows of a file with their column ``window``: many rows for a frame, one of each window that saw it."""
    uri = to_uri(place)
    if uri.rpartition(".")[2].lower() not in _FILES:
        raise ConfigError("rows by window must come from a file", place, remedy="give a .parquet, .csv or .jsonl file")
    table = _read_file(uri, place)
    if "window" not in table.column_names:
        remedy = "add the first frame of each row's window, or leave out per_window"
        raise ConfigError("rows lack the column 'window'", place=place, remedy=remedy)
    with arrow_errors("the column 'window' holds frame numbers", place):
        return _complete(table, place).append_column("window", table["window"].cast(pa.int64()))


def _read_file(uri: str, place: str) -> pa.Table:
    store, key = store_of(uri)
    data = io.BytesIO(store.get(key))
    kind, read = _FILES[uri.rpartition(".")[2].lower()]
    try:
        table = read(data)
        table.validate(full=True)  # that its text is UTF-8
        table.rename_columns(table.column_names)  # the names as well
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:  # Arrow reports damaged pages as OSError
        raise ConfigError(f"not a {kind} file: {error}", place=place) from None
    return table


def store_of(uri: str) -> tuple[Store, str]:
    """The store that holds a file, and the file's key in it."""
    path = local_path(uri)
    if path is not None:
        return open_store(str(path.parent)), path.name
    folder, _, key = uri.rpartition("/")
    return open_store(folder), key


def _complete(table: pa.Table, place: str) -> pa.Table:
    """Rows as the schema has them: columns that a comparison does not need are filled, names of videos become URIs.

    ConfigError if video, frame, x or y is missing, and for what no row can say.
    """
    missing = [name for name in ("video", "frame", "x", "y") if name not in table.column_names]
    if missing:
        raise ConfigError("rows lack columns", missing, place, "the row columns are video, frame, x, y, ...")
    for name in ("x", "y"):
        table = table.set_column(table.column_names.index(name), name, _without_nan(table[name], place))
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
    with arrow_errors("not rows", place):
        rows = pa.table(columns).cast(ROWS)
    words = rows["kind"].cast(pa.string())
    words = pc.if_else(pc.equal(words, ""), None, words)
    rows = rows.set_column(ROWS.get_field_index("kind"), ROWS.field("kind"), words.cast(ROWS.field("kind").type))
    _refuse_impossible(rows, place)
    uris = {name: to_uri(name) for name in pc.unique(rows["video"]).to_pylist()}
    names = pa.chunked_array([pa.array([uris[name] for name in rows["video"].to_pylist()], pa.string())])
    return rows.set_column(0, ROWS.field("video"), names)


def _without_nan(column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    """float64 with null instead of NaN, which other tools write where nothing was found."""
    with arrow_errors("not rows", place):
        column = column.cast(pa.float64())
    return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)


def _refuse_impossible(rows: pa.Table, place: str) -> None:
    """ConfigError with the first row that cannot be."""
    absent = pc.equal(rows["visibility"].cast(pa.string()), Visibility.ABSENT.value)
    no_x, no_y = pc.is_null(rows["x"]), pc.is_null(rows["y"])
    infinite = [pc.fill_null(pc.is_inf(rows[name]), False) for name in ("x", "y")]
    faults = {
        "a row without the name of its video": pc.equal(pc.utf8_trim_whitespace(rows["video"]), ""),
        "a frame below 0": pc.less(rows["frame"], 0),
        "a position of which x or y is missing": pc.xor(no_x, no_y),
        "a position that is not finite": pc.or_(*infinite),
        "a row whose visibility and position disagree": pc.xor(no_x, absent),
    }
    for name, allowed in (("visibility", Visibility), ("provenance", Provenance)):
        known = pc.is_in(rows[name].cast(pa.string()), pa.array([word.value for word in allowed]))
        faults[f"a {name} other than {', '.join(word.value for word in allowed)}"] = pc.invert(known)
    for what, rows_at_fault in faults.items():
        if (first := pc.index(rows_at_fault, True).as_py()) >= 0:
            row = rows.slice(first, 1).to_pylist()[0]
            shown = {name: row[name] for name in ("video", "frame", "x", "y", "visibility", "provenance")}
            raise ConfigError(what, shown, f"{place}, row {first}", "correct the file")


def check_frames(rows: pa.Table, frames: int, place: str) -> None:
    """ConfigError if rows of one video lie beyond its ``frames``: then they are of another video of the same name."""
    if rows.num_rows and not 0 <= (last := pc.max(rows["frame"]).as_py()) < frames:
        raise ConfigError(
            f"these rows belong to another video: they reach frame {last}, but the video has {frames} frames",
            rows["video"][0].as_py(),
            place,
            "annotate this video, or give the rows that belong to it",
        )

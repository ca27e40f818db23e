"""Rows from wherever a person has them: an output of annotate, a Parquet, CSV or JSON Lines file, or labels."""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from specktrack import telemetry
from specktrack.datasets import Dataset, DatasetVideo, load_dataset, make_dataset
from specktrack.datasets.label_files import VideoFinder
from specktrack.errors import ConfigError, StorageError
from specktrack.frames import split_by_video
from specktrack.ledger import read_annotations
from specktrack.schema import ROWS, Provenance, VideoRef, Visibility, arrow_errors
from specktrack.storage import Store, local_path, open_store, stat, to_uri
from specktrack.video.confined import probe


def _read_csv(data: io.BytesIO) -> pa.Table:
    # One thread: Arrow's reading threads can outlive the read and abort the process while it exits.
    one_thread = pyarrow.csv.ReadOptions(use_threads=False)
    text = pyarrow.csv.ConvertOptions(column_types={"video": pa.string()})  # 00003 is a name
    rows = pyarrow.csv.read_csv(data, one_thread, convert_options=text)
    if "video" not in rows.column_names:
        return rows
    names = pc.replace_substring_regex(rows["video"], r"^'([=+\-@\t\r])", r"\1")  # see exports: no formula
    return rows.set_column(rows.column_names.index("video"), "video", names)


def _read_jsonl(data: io.BytesIO) -> pa.Table:
    return pyarrow.json.read_json(data, pyarrow.json.ReadOptions(use_threads=False))


_FILES: Mapping[str, tuple[str, Callable[[io.BytesIO], pa.Table]]] = {
    "parquet": ("Parquet", pq.read_table),
    "csv": ("CSV", _read_csv),
    "jsonl": ("JSON Lines", _read_jsonl),
}
"""What a file of rows may be, by its suffix."""
_VIDEOS_SHOWN = 5


def read_rows(place: str) -> pa.Table:
    """Rows from an output of annotate, a Parquet, CSV or JSON Lines file, or a dataset (its labels as predictions)."""
    uri = to_uri(place)
    path = local_path(uri)
    kind = uri.rpartition(".")[2].lower()
    if kind in _FILES and not (path is not None and path.is_dir()):
        return _complete(_read_file(uri, place), place)
    if path is not None and not path.is_dir():
        raise ConfigError(
            "no rows there", place, remedy="give an output of annotate, or a .parquet, .csv or .jsonl file of rows"
        )
    store = open_store(uri)
    if store.exists("_SUCCESS") or next(store.list("records/"), None) is not None:
        return read_annotations(uri)
    return load_dataset(uri).rows


def read_windows(place: str) -> pa.Table:
    """Rows of a file with their column ``window``: many rows for a frame, one of each window that saw it."""
    uri = to_uri(place)
    if uri.rpartition(".")[2].lower() not in _FILES:
        raise ConfigError("rows by window come from a file", place, remedy="give a .parquet, .csv or .jsonl file")
    table = _read_file(uri, place)
    if "window" not in table.column_names:
        remedy = "add the first frame of each row's window, or leave per_window away"
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
    _refuse_impossible(rows, place)
    uris = {name: to_uri(name) for name in pc.unique(rows["video"]).to_pylist()}
    names = pa.chunked_array([pa.array([uris[name] for name in rows["video"].to_pylist()], pa.string())])
    return rows.set_column(0, ROWS.field("video"), names)


def _without_nan(column: pa.ChunkedArray, place: str) -> pa.ChunkedArray:
    """float64 with null in place of NaN, which other tools write where nothing was found."""
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


def check_frames(rows: pa.Table, frames: int, place: str) -> None:
    """ConfigError if rows of one video lie beyond its ``frames``: then they are of another video of the same name."""
    if rows.num_rows and not 0 <= (last := pc.max(rows["frame"]).as_py()) < frames:
        raise ConfigError(
            f"rows of another video: they reach frame {last}, the video has {frames} frames",
            rows["video"][0].as_py(),
            place,
            "annotate this video, or name the rows that belong to it",
        )


def labels_of_rows(
    rows: pa.Table, place: str, *, videos: str | None = None, labels_only_wh_px: tuple[int, int] | None = None
) -> Dataset:
    """Rows that a person has checked, as labels of their videos: without score, labelled unless they fill a gap.

    ``videos`` is where the videos are now, found by file name. ConfigError for a video that is not there, unless
    ``labels_only_wh_px`` gives its size.
    """
    finder = VideoFinder(open_store(videos)) if videos is not None else None
    labelled, tables = [], []
    for uri, table in split_by_video(rows).items():
        video = _video_of_rows(table, uri, finder, labels_only_wh_px)
        check_frames(table, video.frames, place)
        words = table["provenance"].cast(pa.string())
        filled = pc.is_in(words, pa.array([Provenance.INTERPOLATED.value, Provenance.INPAINTED.value]))
        columns = {
            "video": pa.array([video.ref.uri] * len(table)), "score": pa.nulls(len(table), pa.float32()),
            "provenance": pc.if_else(filled, words, Provenance.LABELLED.value),
        }  # fmt: skip
        tables.append(pa.table({name: columns.get(name, table[name]) for name in ROWS.names}).cast(ROWS))
        labelled.append(video)
    if not tables:
        raise ConfigError("no rows", place=place)
    whole = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return make_dataset(whole, tuple(labelled), name=_base_name(to_uri(place)), layout="rows", source=to_uri(place))


def _video_of_rows(
    rows: pa.Table, uri: str, finder: VideoFinder | None, labels_only_wh_px: tuple[int, int] | None
) -> DatasetVideo:
    try:
        name = uri.rstrip("/").rpartition("/")[2]
        ref = stat((finder.named(name) if finder else None) or uri)
    except (ConfigError, StorageError) as error:
        if labels_only_wh_px is None:
            if isinstance(error, StorageError):
                raise
            remedy = "--videos names the place where videos are, labels_only_wh_px imports labels alone"
            raise ConfigError("the video of the rows is not there", uri, remedy=remedy) from None
        frames = pc.max(rows["frame"]).as_py() + 1
        width, height = labels_only_wh_px
        ref = VideoRef(uri=uri, etag="", size_bytes=0)
        return DatasetVideo(ref=ref, width_px=width, height_px=height, fps=30.0, frames=frames, labels_only=True)
    info = probe(ref)
    return DatasetVideo(ref=ref, width_px=info.width_px, height_px=info.height_px, fps=info.fps, frames=info.frames)


def _base_name(uri: str) -> str:
    """The last part of a URI or path without its suffix."""
    name = uri.rstrip("/").rpartition("/")[2]
    return name.rpartition(".")[0] or name

"""Public formats of point labels: where their files lie, what a line means, and how rows are written back.

    badminton    NNN.csv beside NNN.mp4             Frame,Ball,x,y            x, y divided by width and height
    shuttlecock  match*/csv/*_ball.csv + video/     Frame,Visibility,X,Y      px
    tennis       game*/Clip*/Label.csv + frames     file name,visibility,x-coordinate,y-coordinate,status    px
    volleyball   csvs/NAME.csv + images/NAME/       frame_num,x,y,visible     x, y divided by width and height

A format is data: columns, how a label file finds its video, and one function that reads a line. Problems are
sentences that name file and line; they are gathered, so that a person sees all of them at once.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from specktrack.errors import ConfigError, LabelError
from specktrack.frames import Trajectory
from specktrack.schema import VideoRef, Visibility
from specktrack.storage import IMAGE_SUFFIXES, VIDEO_SUFFIXES, FileStore, Store, local_path, open_store

PROBLEMS_SHOWN = 12
"""A message that lists more problems than this is not read."""

_WORDS = {0: Visibility.ABSENT, 1: Visibility.CLEAR, 2: Visibility.BLURRED, 3: Visibility.OCCLUDED}


@dataclass(frozen=True)
class Line:
    """One line of a label file."""

    frame: int | str
    """Frame number, or the name of an image."""
    x: float
    """As in the file: px or a share of the width; NaN where absent."""
    y: float
    visibility: Visibility


@dataclass(frozen=True)
class LabelFile:
    """A label file and the video that it belongs to, as keys of one store."""

    key: str
    video_key: str
    """With a trailing slash for a folder of frames; where no video was found, the one looked for first."""
    found: bool
    keep: tuple[int, int] | None = None
    """Half-open range of frames that the dataset's authors count; None keeps all."""


@dataclass(frozen=True)
class PointFormat:
    """One public format."""

    name: str
    columns: tuple[str, ...]
    normalised: bool
    """Coordinates are divided by width and height."""
    is_label: Callable[[str], bool] = field(repr=False)
    """Whether a key is a label file of this layout."""
    videos: Callable[[PurePosixPath], tuple[str, ...]] = field(repr=False)
    """Keys (without suffix; with a trailing slash for a folder) where the video of a label file may be."""
    line: Callable[[Mapping[str, str]], Line] = field(repr=False)
    """Reads a line; ValueError with a sentence about what is wrong with it."""


def _number(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, not a number") from None
    if not np.isfinite(value):
        raise ValueError(f"{column} is {text!r}, not finite")
    return value


def _index(text: str, column: str) -> int:
    value = _number(text, column)
    if value < 0 or not value.is_integer():
        raise ValueError(f"{column} is {text!r}, not a frame number from 0")
    return int(value)


def _word(text: str, column: str) -> Visibility:
    value = _number(text, column)
    if value not in _WORDS:
        raise ValueError(f"{column} is {text!r}, not one of 0, 1, 2, 3")
    return _WORDS[int(value)]


def _point(frame: int | str, x: str, y: str, visibility: Visibility) -> Line:
    if visibility is Visibility.ABSENT:
        return Line(frame, float("nan"), float("nan"), visibility)
    return Line(frame, _number(x, "x"), _number(y, "y"), visibility)


def _badminton_line(row: Mapping[str, str]) -> Line:
    return _point(_index(row["Frame"], "Frame"), row["x"], row["y"], _word(row["Ball"], "Ball"))


def _shuttlecock_line(row: Mapping[str, str]) -> Line:
    return _point(_index(row["Frame"], "Frame"), row["X"], row["Y"], _word(row["Visibility"], "Visibility"))


def _tennis_line(row: Mapping[str, str]) -> Line:
    name = PurePosixPath(row["file name"]).name
    return _point(name, row["x-coordinate"], row["y-coordinate"], _word(row["visibility"], "visibility"))


def _volleyball_line(row: Mapping[str, str]) -> Line:
    """``visible`` is 0 in every row of the published files by mistake; only the coordinates say who is absent."""
    absent = not row["x"].strip() or (_number(row["x"], "x") <= 0 and _number(row["y"], "y") <= 0)
    word = Visibility.ABSENT if absent else Visibility.CLEAR
    return _point(_index(row["frame_num"], "frame_num"), row["x"], row["y"], word)


def _beside(key: PurePosixPath) -> tuple[str, ...]:
    return (str(key.with_suffix("")),)


def _of_match(key: PurePosixPath) -> tuple[str, ...]:
    stem = key.stem.removesuffix("_ball")
    return (
        str(key.parent.parent / "video" / stem),
        str(key.parent / stem),
        str(key.parent.parent / "frame" / stem) + "/",
    )


def _of_images(key: PurePosixPath) -> tuple[str, ...]:
    return (str(key.parent.parent / "images" / key.stem) + "/", str(key.with_suffix("")) + "/")


FORMATS = {
    item.name: item
    for item in (
        PointFormat(
            "tennis", ("file name", "visibility", "x-coordinate", "y-coordinate", "status"), normalised=False,
            is_label=lambda key: PurePosixPath(key).name == "Label.csv",
            videos=lambda key: ("./" if str(key.parent) == "." else f"{key.parent}/",), line=_tennis_line,
        ),
        PointFormat(
            "shuttlecock", ("Frame", "Visibility", "X", "Y"), normalised=False,
            is_label=lambda key: key.endswith("_ball.csv"), videos=_of_match, line=_shuttlecock_line,
        ),
        PointFormat(
            "volleyball", ("frame_num", "x", "y", "visible"), normalised=True,
            is_label=lambda key: key.endswith(".csv"), videos=_of_images, line=_volleyball_line,
        ),
        PointFormat(
            "badminton", ("Frame", "Ball", "x", "y"), normalised=True,
            is_label=lambda key: key.endswith(".csv"), videos=_beside, line=_badminton_line,
        ),
    )
}  # fmt: skip


def recognise(store: Store) -> PointFormat | None:
    """The format whose label files lie in the store and begin with its columns; None if there is none."""
    keys = [info.key for info in store.list() if info.key.endswith(".csv")]
    for candidate in FORMATS.values():
        first = next((key for key in keys if candidate.is_label(key)), None)
        if first is not None and _header(store.get(first)) == candidate.columns:
            return candidate
    return None


def find_labels(store: Store, layout: PointFormat) -> list[LabelFile]:
    """The format's label files and their videos, ordered by key; corrected labels replace the ones they correct."""
    infos = list(store.list())
    keys = {info.key for info in infos}
    folders = {f"{PurePosixPath(key).parent}/" for key in keys if PurePosixPath(key).suffix.lower() in IMAGE_SUFFIXES}
    drops = {str(PurePosixPath(key).parent): key for key in keys if PurePosixPath(key).name == "drop_frame.json"}
    found: dict[str, LabelFile] = {}
    for key in sorted(keys):
        if not layout.is_label(key):
            continue
        places = layout.videos(PurePosixPath(key))
        video = next((match for place in places if (match := _existing(place, keys, folders))), None)
        wanted = places[0] if places[0].endswith("/") else f"{places[0]}.mp4"
        item = LabelFile(key, video or wanted, video is not None, _kept(store, key, drops))
        if item.video_key not in found or PurePosixPath(key).parent.name == "corrected_csv":
            found[item.video_key] = item
    return sorted(found.values(), key=lambda item: item.key)


def _existing(place: str, keys: set[str], folders: set[str]) -> str | None:
    if place.endswith("/"):
        return place if place in folders else None
    return next((place + suffix for suffix in sorted(VIDEO_SUFFIXES) if place + suffix in keys), None)


def _kept(store: Store, key: str, drops: Mapping[str, str]) -> tuple[int, int] | None:
    """Frames that a drop_frame.json above the label file keeps: ``<match number>_<rally>`` -> start, end."""
    path = PurePosixPath(key)
    match = re.search(r"match(\d+)", str(path.parent))
    above = next((drops[str(parent)] for parent in path.parents if str(parent) in drops), None)
    if match is None or above is None:
        return None
    try:
        table = json.loads(store.get(above))
        rally = f"{match[1]}_{path.stem.removesuffix('_ball')}"
        return (int(table["start"][rally]), int(table["end"][rally])) if rally in table["start"] else None
    except (ValueError, KeyError, TypeError) as error:
        raise LabelError(
            f"not a table of dropped frames: {error}",
            place=store.uri_of(above),
            remedy="needs 'start' and 'end' per rally",
        ) from None


def _header(data: bytes) -> tuple[str, ...]:
    first = data[:1000].decode("utf-8-sig", errors="replace").splitlines()[:1]
    return tuple(name.strip() for name in first[0].split(",")) if first else ()


def read_lines(data: bytes, layout: PointFormat, place: str) -> tuple[list[Line], list[str]]:
    """The lines of a label file and the problems in it, each one a sentence that names file and line."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = tuple(name.strip() for name in reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [f"{place}:1 is not CSV text: {error}"]
    if header != layout.columns:
        return [], [f"{place}:1 has columns {','.join(header)!r}, {layout.name} has {','.join(layout.columns)!r}"]
    reader.fieldnames = list(header)
    lines: list[Line] = []
    problems: list[str] = []
    seen: set[int | str] = set()
    try:
        for row in reader:
            try:
                lines.append(_checked_line(row, layout, seen))
            except ValueError as error:
                problems.append(f"{place}:{reader.line_num} {error}")
    except csv.Error as error:
        problems.append(f"{place}:{reader.line_num} is not CSV: {error}")
    if not lines and not problems:
        problems.append(f"{place} holds no labels")
    return lines, problems


def _checked_line(row: Mapping[str, str | None], layout: PointFormat, seen: set[int | str]) -> Line:
    if None in row or None in row.values():
        raise ValueError(f"has not {len(layout.columns)} fields")
    line = layout.line({name: text or "" for name, text in row.items()})
    if line.frame in seen:
        raise ValueError(f"has frame {line.frame} a second time")
    seen.add(line.frame)
    return line


def refuse(problems: Sequence[str], *, remedy: str = "correct the files and import again") -> None:
    """Raise LabelError with all ``problems`` if there are any."""
    if problems:
        shown = list(problems[:PROBLEMS_SHOWN])
        more = [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        raise LabelError("; ".join(shown + more), remedy=remedy)


# --- writing --------------------------------------------------------------------------------------------------------


def export_rows(
    rows: pa.Table, to: str, destination: str, *, sizes_wh_px: Mapping[str, tuple[int, int]] | None = None
) -> list[str]:
    """Write rows as ``csv`` or ``jsonl`` (one file), or ``tracknet-csv``, ``tennis``, ``badminton`` (per video).

    With one video ``destination`` may name the file itself. ``badminton`` divides by the size of each video, given by
    its URI. Returns the URIs written.
    """
    if to not in EXPORTS:
        raise ConfigError("no such export of points", to, remedy=f"one of {', '.join(EXPORTS)}")
    suffix, per_video = EXPORTS[to]
    if not per_video:
        return [_write(destination, _plain(rows, to), suffix)]
    videos = pc.unique(rows["video"]).to_pylist()
    if to == "badminton" and (missing := [video for video in videos if video not in (sizes_wh_px or {})]):
        raise ConfigError("the badminton format divides by the video's size, which is not known", missing[0])
    written = []
    for video, name in zip(videos, _distinct(videos), strict=True):
        one = rows.filter(pc.equal(rows["video"], video))
        objects = pc.unique(one["object"]).to_pylist()
        if len(objects) > 1:
            raise ConfigError(f"{to} holds one object per video", objects, video, "filter the rows by object first")
        data = _per_video(Trajectory.from_rows(one), to, (sizes_wh_px or {}).get(video, (1, 1)))
        single = len(videos) == 1 and destination.endswith(".csv")
        written.append(_write(destination if single else f"{destination.rstrip('/')}/{name}{suffix}", data, ""))
    return written


EXPORTS: dict[str, tuple[str, bool]] = {
    "csv": (".csv", False),
    "jsonl": (".jsonl", False),
    "tracknet-csv": ("_ball.csv", True),
    "tennis": ("/Label.csv", True),
    "badminton": (".csv", True),
}
"""Suffix of a format's files, and whether it has one per video."""


def _plain(rows: pa.Table, to: str) -> bytes:
    flat = rows.cast(
        pa.schema([pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in rows.schema])
    )
    if to == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in flat.to_pylist()).encode()
    sink = io.BytesIO()
    pa_csv.write_csv(flat, sink, pa_csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue()


def _per_video(track: Trajectory, to: str, wh_px: tuple[int, int]) -> bytes:
    numbers = {word.value: number for number, word in _WORDS.items()}
    lines = [",".join(FORMATS["shuttlecock" if to == "tracknet-csv" else to].columns)]
    for frame, (x, y), word in zip(track.frame, track.xy_px, track.visibility, strict=True):
        absent = word == Visibility.ABSENT.value
        if to == "tracknet-csv":
            lines.append(f"{frame},0,0,0" if absent else f"{frame},1,{x:.2f},{y:.2f}")
        elif to == "tennis":
            lines.append(f"{frame:04d}.jpg,0,,," if absent else f"{frame:04d}.jpg,{numbers[word]},{x:.2f},{y:.2f},")
        else:
            lines.append(f"{frame},0,-1,-1" if absent else f"{frame},1,{x / wh_px[0]:.6f},{y / wh_px[1]:.6f}")
    return ("\n".join(lines) + "\n").encode()


def _distinct(videos: Sequence[str]) -> list[str]:
    """A file name per video: its own, with a number in front where names repeat."""
    names = [VideoRef(uri=video, etag="", size_bytes=0).name for video in videos]
    return names if len(set(names)) == len(names) else [f"{i:04d}-{name}" for i, name in enumerate(names)]


def _write(destination: str, data: bytes, suffix: str) -> str:
    """Write one object; a destination that is a folder gets ``rows`` + suffix in it."""
    path = local_path(destination)
    if suffix and (destination.endswith("/") or (path is not None and path.is_dir())):
        destination = f"{destination.rstrip('/')}/rows{suffix}"
        path = local_path(destination)
    folder, _, name = destination.rpartition("/")
    store = FileStore(Path(path).parent) if path is not None else open_store(folder)
    store.put(path.name if path is not None else name, data)
    return store.uri_of(path.name if path is not None else name)

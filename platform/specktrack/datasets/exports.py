"""Rows written in the formats of other tools; what a format cannot say is told where it is written.

csv, jsonl                       all columns of the row schema, one file
tracknet-csv, tennis, badminton  one object's points, one file per video
multiball, cvat                  all objects, one file per video
label-studio, coco               all objects and videos, one file
mot                              all objects' boxes, one file per video
otb, got10k                      one object's boxes, one file per video
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from specktrack.datasets.boxes import write_coco, write_got10k, write_mot, write_otb
from specktrack.datasets.cvat import write_cvat
from specktrack.datasets.formats import WORDS
from specktrack.datasets.label_studio import label_config, write_label_studio
from specktrack.datasets.lines import VideoRows
from specktrack.errors import ConfigError
from specktrack.frames import trajectories
from specktrack.schema import VideoRef, Visibility
from specktrack.storage import FileStore, local_path, open_store

NUMBERS = {word.value: number for number, word in WORDS.items()}


@dataclass(frozen=True)
class Export:
    """One format."""

    files: Callable[[Sequence[VideoRows]], Mapping[str, bytes]]
    """The files by name, relative to the destination; called with one video at a time where ``per_video``."""
    per_video: bool = True
    many_objects: bool = False
    """The format can tell objects apart."""
    needs_size: bool = False
    """The format needs the width and height of the picture."""


def export_rows(
    rows: pa.Table,
    to: str,
    destination: str,
    *,
    sizes_wh_px: Mapping[str, tuple[int, int]] | None = None,
    box_px: float | None = None,
) -> list[str]:
    """Write rows in a format of ``EXPORTS``; the URIs written.

    ``destination`` is a folder, or the file itself where there is one to write. ``sizes_wh_px`` has each
    video's width and height by its URI, for formats that need them. ``box_px`` is the side of the square that stands
    for a point in formats of boxes; without it they refuse points. ConfigError for what the format cannot hold.
    """
    if to in PLAIN:
        return _put(destination, {f"rows.{to}": PLAIN[to](rows)}, plain=True)
    if to not in EXPORTS:
        raise ConfigError("no such export", to, remedy=f"one of {', '.join([*PLAIN, *EXPORTS])}")
    export, videos = EXPORTS[to], _videos(rows, sizes_wh_px or {}, box_px)
    if not videos:
        raise ConfigError("no rows to export", to, destination)
    for video in videos:
        if export.needs_size and video.wh_px is None:
            raise ConfigError(f"{to} needs the video's size, which is not known", video.uri, remedy="give --size-wh-px")
        if len(video.tracks) > 1 and not export.many_objects:
            raise ConfigError(
                f"{to} holds one object per video", list(video.tracks), video.uri, "filter the rows by object first"
            )
    files: dict[str, bytes] = {}
    for part in [[video] for video in videos] if export.per_video else [videos]:
        files |= export.files(part)
    return _put(destination, files)


def _videos(rows: pa.Table, sizes_wh_px: Mapping[str, tuple[int, int]], box_px: float | None) -> list[VideoRows]:
    found = trajectories(rows)
    return [
        VideoRows(uri, name, tracks, sizes_wh_px.get(uri), box_px)
        for name, (uri, tracks) in zip(_distinct(list(found)), found.items(), strict=True)
    ]


def _distinct(videos: Sequence[str]) -> list[str]:
    """A file name per video: its own, with a number in front where names repeat."""
    names = [VideoRef(uri=video, etag="", size_bytes=0).name for video in videos]
    return names if len(set(names)) == len(names) else [f"{i:04d}-{name}" for i, name in enumerate(names)]


def _put(destination: str, files: Mapping[str, bytes], *, plain: bool = False) -> list[str]:
    """Write files below the destination, or the only one of its kind at the destination itself and the rest beside it.

    The destination names a file if it ends like one, or, for a ``plain`` one, unless it is a folder.
    """
    path = local_path(destination)
    is_folder = destination.endswith("/") or (path is not None and path.is_dir())
    first = next(iter(files))
    alike = [name for name in files if _suffix(name) == _suffix(first)]
    if not is_folder and (plain or (len(alike) == 1 and _suffix(destination) == _suffix(first))):
        folder, _, name = destination.rpartition("/") if path is None else (str(path.parent), "", path.name)
        stem = name.removesuffix(_suffix(name))
        files = {name if each == first else stem + _suffix(each): data for each, data in files.items()}
        path, destination = (path.parent, "") if path is not None else (None, folder)
    store = FileStore(path) if path is not None else open_store(destination)
    for name, data in files.items():
        store.put(name, data)
    return [store.uri_of(name) for name in files]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix


# --- formats of rows and points -------------------------------------------------------------------------------------


def _flat(rows: pa.Table) -> pa.Table:
    words = [pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in rows.schema]
    return rows.cast(pa.schema(words))


def _csv(rows: pa.Table) -> bytes:
    """A name that spreadsheets take for a formula gets an apostrophe before it; ``read_rows`` takes it away."""
    sink, flat = io.BytesIO(), _flat(rows)
    names = pc.replace_substring_regex(flat["video"], r"^([=+\-@\t\r])", r"'\1")
    flat = flat.set_column(flat.schema.get_field_index("video"), flat.schema.field("video"), names)
    pa_csv.write_csv(flat, sink, pa_csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue()


def _jsonl(rows: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _flat(rows).to_pylist()).encode()


PLAIN: Mapping[str, Callable[[pa.Table], bytes]] = {"csv": _csv, "jsonl": _jsonl}
"""Formats that hold every column."""


def _text(header: str, lines: Sequence[str]) -> bytes:
    return ("\n".join([header, *lines]) + "\n").encode()


def _tracknet(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """TrackNetV2 and V3: present or not, and where; (0, 0) where absent."""
    (video,) = videos
    (track,) = video.tracks.values()
    lines = [
        f"{frame},1,{x:.2f},{y:.2f}" if present else f"{frame},0,0,0"
        for frame, (x, y), present in zip(track.frame, track.xy_px, track.present, strict=True)
    ]
    return {f"{video.name}_ball.csv": _text("Frame,Visibility,X,Y", lines)}


def _multiball(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    (video,) = videos
    lines = []
    for number, track in video.tracks.items():
        for frame, (x, y), word in zip(track.frame, track.xy_px, track.visibility, strict=True):
            place = "0,0" if word == Visibility.ABSENT.value else f"{x:.2f},{y:.2f}"
            lines.append((int(frame), number, f"{frame},{number},{NUMBERS[word]},{place}"))
    return {f"{video.name}.csv": _text("Frame,Object,Visibility,X,Y", [line for *_, line in sorted(lines)])}


def _tennis(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """All four words of visibility; frames by the names of their images; no status (flying, hit, bounce)."""
    (video,) = videos
    (track,) = video.tracks.values()
    lines = [
        f"{frame:04d}.jpg,0,,," if word == Visibility.ABSENT.value
        else f"{frame:04d}.jpg,{NUMBERS[word]},{x:.2f},{y:.2f},"
        for frame, (x, y), word in zip(track.frame, track.xy_px, track.visibility, strict=True)
    ]  # fmt: skip
    return {f"{video.name}/Label.csv": _text("file name,visibility,x-coordinate,y-coordinate,status", lines)}


def _badminton(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """Positions divided by width and height; -1 where absent."""
    (video,) = videos
    (track,) = video.tracks.values()
    assert video.wh_px is not None
    width, height = video.wh_px
    lines = [
        f"{frame},1,{x / width:.6f},{y / height:.6f}" if present else f"{frame},0,-1,-1"
        for frame, (x, y), present in zip(track.frame, track.xy_px, track.present, strict=True)
    ]
    return {f"{video.name}.csv": _text("Frame,Ball,x,y", lines)}


def _label_studio(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    return {"label-studio.json": write_label_studio(videos), "label-studio.xml": label_config(videos)}


EXPORTS: Mapping[str, Export] = {
    "tracknet-csv": Export(_tracknet),
    "tennis": Export(_tennis),
    "badminton": Export(_badminton, needs_size=True),
    "multiball": Export(_multiball, many_objects=True),
    "cvat": Export(lambda videos: {f"{videos[0].name}.xml": write_cvat(videos[0])}, many_objects=True),
    "label-studio": Export(_label_studio, per_video=False, many_objects=True, needs_size=True),
    "coco": Export(
        lambda videos: {"coco.json": write_coco(videos)}, per_video=False, many_objects=True, needs_size=True
    ),
    "mot": Export(lambda videos: {f"{videos[0].name}.txt": write_mot(videos[0])}, many_objects=True),
    "otb": Export(lambda videos: write_otb(videos[0])),
    "got10k": Export(lambda videos: write_got10k(videos[0])),
}
"""Formats that hold part of the columns."""

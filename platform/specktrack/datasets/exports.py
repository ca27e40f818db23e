"""Export rows to the formats of other tools; the table of formats lists what each cannot hold.

csv, jsonl, parquet                     all columns of the row schema, one file
shuttlecock, tennis, badminton,
volleyball, wasb-volleyball             one object's points, one file per video
multiball, cvat, cvat-images            all objects, one file per video
label-studio, coco                      all objects and videos, one file
fiftyone, huggingface                   all objects and videos, a folder
mot                                     all objects' boxes, one file per video
yolo                                    all objects' boxes, one file per frame
otb, got10k, lasot, latot               one object's boxes, one file per video
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from specktrack.datasets.boxes import every_frame, write_got10k, write_lasot, write_latot, write_otb
from specktrack.datasets.coco import write_coco
from specktrack.datasets.csv_labels import COLUMNS, WORDS, is_nowhere
from specktrack.datasets.cvat import write_cvat, write_cvat_images
from specktrack.datasets.fiftyone import write_fiftyone
from specktrack.datasets.huggingface import write_huggingface
from specktrack.datasets.label_studio import label_config, write_label_studio
from specktrack.datasets.lines import VideoRows
from specktrack.datasets.mot import write_mot
from specktrack.datasets.yolo import write_yolo
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.frames import Trajectory, trajectories
from specktrack.schema import VideoRef, Visibility
from specktrack.storage import FileStore, frame_names, local_path, open_store

NUMBERS = {word.value: number for number, word in WORDS.items()}
POINT_BOX_PX = 10.0
"""Side of the square that represents a point in box formats: about a ball in 1080p."""
FORMULA = r"^([=+\-@\t\r])"
"""How a text begins that spreadsheets take for a formula."""


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
    needs_names: bool = False
    """The format names the pictures of frames."""


def export_rows(
    rows: pa.Table,
    to: str,
    destination: str,
    *,
    sizes_wh_px: Mapping[str, tuple[int, int]] | None = None,
    box_px: float = POINT_BOX_PX,
) -> list[str]:
    """Write rows in a format of ``EXPORTS``; the URIs written.

    ``destination`` is a folder, or the file itself if there is one to write. ``sizes_wh_px`` has each
    video's width and height by its URI, for formats that need them. ``box_px`` is the side of the square that stands
    for a point in formats of boxes. ConfigError for what the format cannot hold.
    """
    to = ALIASES.get(to, to)
    if to in PLAIN:
        return _put(destination, {f"rows.{to}": PLAIN[to](rows)}, plain=True)
    if to not in EXPORTS:
        raise ConfigError("no such export", to, remedy=f"one of {', '.join([*PLAIN, *EXPORTS])}")
    export = EXPORTS[to]
    videos = _videos(rows, sizes_wh_px or {}, box_px, named=export.needs_names)
    if not videos:
        raise ConfigError("no rows to export", to, destination)
    for video in videos:
        if export.needs_size and video.wh_px is None:
            raise ConfigError(f"{to} needs the video's size, which is not known", video.uri, remedy="give --size-wh-px")
        if len(video.tracks) > 1 and not export.many_objects:
            raise ConfigError(
                f"{to} can hold only one object per video",
                list(video.tracks),
                video.uri,
                "filter the rows by object first",
            )
    files: dict[str, bytes] = {}
    for part in [[video] for video in videos] if export.per_video else [videos]:
        files |= export.files(part)
    return _put(destination, files)


def _videos(
    rows: pa.Table, sizes_wh_px: Mapping[str, tuple[int, int]], box_px: float, *, named: bool
) -> list[VideoRows]:
    found = trajectories(rows)
    return [
        VideoRows(uri, name, tracks, sizes_wh_px.get(uri), box_px, _pictures(uri, tracks) if named else ())
        for name, (uri, tracks) in zip(_distinct(list(found)), found.items(), strict=True)
    ]


def _pictures(uri: str, tracks: Mapping[int, Trajectory]) -> Sequence[str]:
    """Names of the pictures of a video that is a folder of them; ConfigError where they cannot be known."""
    if not uri.endswith("/"):
        return ()
    try:
        names = frame_names(uri)
    except SpecktrackError:
        names = []
    last = max((int(track.frame[-1]) for track in tracks.values() if len(track)), default=0)
    if last >= len(names):
        remedy = "export where the pictures exist, or use a format that does not name them"
        raise ConfigError(f"{len(names)} pictures, but rows up to frame {last}", place=uri, remedy=remedy)
    return names


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


def to_csv(rows: pa.Table) -> bytes:
    """Rows as CSV; a text that spreadsheets take for a formula gets an apostrophe before it, which is read away."""
    sink, flat = io.BytesIO(), _flat(rows)
    for name in ("video", "kind"):
        texts = pc.replace_substring_regex(flat[name], FORMULA, r"'\1")
        flat = flat.set_column(flat.schema.get_field_index(name), flat.schema.field(name), texts)
    pa_csv.write_csv(flat, sink, pa_csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue()


def _jsonl(rows: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _flat(rows).to_pylist()).encode()


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


PLAIN: Mapping[str, Callable[[pa.Table], bytes]] = {"csv": to_csv, "jsonl": _jsonl, "parquet": _parquet}
"""Formats that hold every column."""
ALIASES = {"tracknet-csv": "shuttlecock"}
"""Other names under which formats are known."""


def _table(name: str, lines: Sequence[str]) -> bytes:
    return ("\n".join([COLUMNS[name].header, *lines]) + "\n").encode()


def _xy(x: float, y: float, *, digits: int) -> str:
    """A position that is not taken for none: the hundredth px beside (0, 0) is written in its place."""
    shown = round(float(x), digits), round(float(y), digits)
    step = 10.0**-digits if is_nowhere(*shown) else 0.0
    return f"{shown[0] + step:.{digits}f},{shown[1]:.{digits}f}"


def _shuttlecock(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """TrackNetV2 and V3: present or not, and where; (0, 0) where absent."""
    (video,) = videos
    (track,) = video.tracks.values()
    lines = [
        f"{frame},1,{_xy(x, y, digits=2)}" if present else f"{frame},0,0,0"
        for frame, (x, y), present in zip(track.frame, track.xy_px, track.present, strict=True)
    ]
    return {f"{video.name}_ball.csv": _table("shuttlecock", lines)}


def _multiball(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    (video,) = videos
    lines = []
    for number, track in video.tracks.items():
        for frame, (x, y), word in zip(track.frame, track.xy_px, track.visibility, strict=True):
            place = "0,0" if word == Visibility.ABSENT.value else _xy(x, y, digits=2)
            lines.append((int(frame), number, f"{frame},{number},{NUMBERS[word]},{place}"))
    return {f"{video.name}.csv": _table("multiball", [line for *_, line in sorted(lines)])}


def _tennis(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """All four words of visibility; frames by the names of their images; no status (flying, hit, bounce)."""
    (video,) = videos
    (track,) = video.tracks.values()
    lines = []
    for frame, (x, y), word in zip(track.frame, track.xy_px, track.visibility, strict=True):
        name = video.picture(int(frame), digits=4)
        name = f"'{name}" if re.match(FORMULA, name) else name
        place = "," if word == Visibility.ABSENT.value else _xy(x, y, digits=2)
        lines.append(f"{_quoted(name)},{NUMBERS[word]},{place},")
    return {f"{video.name}/Label.csv": _table("tennis", lines)}


def _quoted(text: str) -> str:
    """A field of CSV."""
    sink = io.StringIO()
    csv.writer(sink, lineterminator="").writerow([text])
    return sink.getvalue()


def _shares(video: VideoRows) -> list[tuple[int, str]]:
    """Frames, and positions divided by width and height; empty where absent."""
    assert video.wh_px is not None
    (track,) = video.tracks.values()
    places = track.xy_px.astype(float) / np.array(video.wh_px)
    shown = [_xy(x, y, digits=6) if present else "" for (x, y), present in zip(places, track.present, strict=True)]
    return list(zip(track.frame.tolist(), shown, strict=True))


def _badminton(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """Positions divided by width and height; -1 where absent."""
    (video,) = videos
    lines = [f"{frame},1,{place}" if place else f"{frame},0,-1,-1" for frame, place in _shares(video)]
    return {f"{video.name}.csv": _table("badminton", lines)}


def _volleyball(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """Positions divided by width and height; none where absent."""
    (video,) = videos
    lines = [f"{frame},{place},1" if place else f"{frame},,,0" for frame, place in _shares(video)]
    return {f"csvs/{video.name}.csv": _table("volleyball", lines)}


def _wasb_volleyball(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """``x y`` in line i for frame i; -1 -1 where absent."""
    (video,) = videos
    (track,) = video.tracks.values()
    every_frame(video, track)
    lines = [
        _xy(x, y, digits=2).replace(",", " ") if present else "-1 -1"
        for (x, y), present in zip(track.xy_px, track.present, strict=True)
    ]
    return {f"0/{video.name}.txt": ("\n".join(lines) + "\n").encode()}


def _label_studio(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    return {"label-studio.json": write_label_studio(videos), "label-studio.xml": label_config(videos)}


def _cvat_images(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    return {f"{videos[0].name}.xml": write_cvat_images(videos[0])}


EXPORTS: Mapping[str, Export] = {
    "tennis": Export(_tennis, needs_names=True),
    "shuttlecock": Export(_shuttlecock),
    "multiball": Export(_multiball, many_objects=True),
    "volleyball": Export(_volleyball, needs_size=True),
    "badminton": Export(_badminton, needs_size=True),
    "wasb-volleyball": Export(_wasb_volleyball),
    "cvat": Export(lambda videos: {f"{videos[0].name}.xml": write_cvat(videos[0])}, many_objects=True),
    "cvat-images": Export(_cvat_images, many_objects=True, needs_size=True, needs_names=True),
    "label-studio": Export(_label_studio, per_video=False, many_objects=True, needs_size=True),
    "coco": Export(
        lambda videos: {"coco.json": write_coco(videos)}, per_video=False, many_objects=True, needs_size=True,
        needs_names=True,
    ),
    "mot": Export(lambda videos: {f"{videos[0].name}.txt": write_mot(videos[0])}, many_objects=True),
    "yolo": Export(write_yolo, per_video=False, many_objects=True, needs_size=True, needs_names=True),
    "fiftyone": Export(write_fiftyone, per_video=False, many_objects=True, needs_size=True),
    "huggingface": Export(write_huggingface, per_video=False, many_objects=True),
    "otb": Export(lambda videos: write_otb(videos[0])),
    "got10k": Export(lambda videos: write_got10k(videos[0])),
    "lasot": Export(lambda videos: write_lasot(videos[0])),
    "latot": Export(lambda videos: write_latot(videos[0])),
}  # fmt: skip
"""Formats that hold part of the columns."""

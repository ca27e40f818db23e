"""Labelled video: public formats in, one row schema out.

dataset.py    Dataset and DatasetCard on disk or in S3
points.py     public formats of point labels, read and written
splits.py     training and test parts: the papers' splits, and honest ones by video or match
checks.py     what a dataset holds, and labels that cannot be right
synthetic.py  rendered truth (flight.py: physics and rallies; scenery.py: courts, crowds, people)
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from specktrack import telemetry
from specktrack.datasets.checks import check_dataset, dataset_stats
from specktrack.datasets.dataset import (
    CARD_NAME,
    Dataset,
    DatasetCard,
    DatasetVideo,
    make_dataset,
    read_dataset,
    save_dataset,
)
from specktrack.datasets.points import (
    FORMATS,
    LabelFile,
    Line,
    PointFormat,
    export_rows,
    find_labels,
    read_lines,
    recognise,
    refuse,
)
from specktrack.datasets.splits import SplitReport, split_dataset
from specktrack.errors import ConfigError, LabelError, MediaError, StorageError
from specktrack.frames import Trajectory, Viewport
from specktrack.schema import ROWS, Clip, Provenance, VideoRef
from specktrack.storage import Store, frame_names, local_path, open_store, stat
from specktrack.video import VideoInfo, probe, read_clip

__all__ = [
    "FORMATS",
    "Dataset",
    "DatasetCard",
    "DatasetVideo",
    "SplitReport",
    "check_dataset",
    "dataset_stats",
    "export_rows",
    "import_dataset",
    "load_dataset",
    "split_dataset",
]

OVERHANG = 0.02
"""Share of the picture's size by which a centre may lie outside: annotators click half-visible balls at the rim."""

log = telemetry.get_logger()


def load_dataset(path_or_uri: str) -> Dataset:
    """Read a saved dataset, or import in memory a folder whose layout is recognised. ConfigError, LabelError."""
    store = open_store(str(path_or_uri))
    folder = local_path(store.uri)
    if folder is not None and not folder.is_dir():
        raise ConfigError("no such folder", str(path_or_uri), remedy="give a dataset, or a folder of labels and videos")
    return read_dataset(store) if store.exists(CARD_NAME) else _read_layout("auto", store, None)


def import_dataset(
    layout: str, source: str, destination: str, *, labels_only_wh_px: tuple[int, int] | None = None
) -> DatasetCard:
    """Import labels of a public format (or ``auto``) and save them as a dataset that refers to their videos.

    ``labels_only_wh_px`` gives the picture's size for labels whose videos are not there; such videos are marked in the
    card. Raises LabelError naming every problem, ConfigError for an unknown format.
    """
    dataset = _read_layout(layout, open_store(str(source)), labels_only_wh_px)
    card = save_dataset(dataset, open_store(str(destination)))
    log.info("dataset imported", source=card.source, format=card.format, videos=len(card.videos), rows=card.rows)
    return card


def _read_layout(layout: str, store: Store, labels_only_wh_px: tuple[int, int] | None) -> Dataset:
    """Read all label files of a format below ``store`` and join them with their videos."""
    if layout not in (*FORMATS, "auto"):
        raise ConfigError("no such format of labels", layout, remedy=f"one of auto, {', '.join(FORMATS)}")
    chosen = recognise(store) if layout == "auto" else FORMATS[layout]
    known = "; ".join(f"{item.name}: {','.join(item.columns)}" for item in FORMATS.values())
    if chosen is None:
        raise LabelError(
            "no dataset.json and no label files of a known format", place=store.uri, remedy=f"known are {known}"
        )
    files = find_labels(store, chosen)
    if not files:
        raise LabelError(f"no label files of the format {chosen.name}", place=store.uri, remedy=f"known are {known}")
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda file: _read_file(file, chosen, store, labels_only_wh_px), files))
    refuse([problem for _, _, problems in read for problem in problems])
    videos = [video for _, video, _ in read if video is not None]
    return make_dataset(
        pa.concat_tables([rows for rows, _, _ in read]).combine_chunks(),
        tuple(videos),
        name=VideoRef(uri=store.uri, etag="", size_bytes=0).name,
        layout=chosen.name,
        source=store.uri,
        notes=tuple(_notes(files, videos)),
    )


def _notes(files: Sequence[LabelFile], videos: Sequence[DatasetVideo]) -> list[str]:
    notes = []
    if dropped := [file for file in files if file.keep is not None]:
        notes.append(f"drop_frame.json: frames outside the kept range are left out in {len(dropped)} videos")
    if corrected := [file for file in files if PurePosixPath(file.key).parent.name == "corrected_csv"]:
        notes.append(f"corrected labels in {len(corrected)} videos")
    if alone := [video for video in videos if video.labels_only]:
        notes.append(f"labels only: {len(alone)} videos are not there; their size was given by hand")
    return notes


def _read_file(
    file: LabelFile, layout: PointFormat, store: Store, labels_only_wh_px: tuple[int, int] | None
) -> tuple[pa.Table, DatasetVideo | None, list[str]]:
    """Rows and video of one label file, and the problems that forbid its use."""
    lines, problems = read_lines(store.get(file.key), layout, file.key)
    nothing = ROWS.empty_table()
    if problems:
        return nothing, None, problems
    uri = store.uri if file.video_key == "./" else store.uri_of(file.video_key.rstrip("/"))
    uri += "/" if file.video_key.endswith("/") else ""
    if not file.found:
        if labels_only_wh_px is None:
            missing = f"{file.key} has no video beside it ({file.video_key}); labels_only_wh_px imports labels alone"
            return nothing, None, [missing]
        width, height = labels_only_wh_px
        ref = VideoRef(uri=uri, etag="", size_bytes=0)
        video = DatasetVideo(ref=ref, width_px=width, height_px=height, fps=30.0, frames=len(lines), labels_only=True)
        times_s = np.arange(len(lines)) / 30.0
    else:
        try:
            ref = stat(uri)
            info = probe(ref)
            times_s = _times(ref, info)
        except (MediaError, StorageError) as error:
            return nothing, None, [f"{file.key}: its video cannot be read: {error}"]
        video = DatasetVideo(
            ref=ref, width_px=info.width_px, height_px=info.height_px, fps=info.fps, frames=info.frames
        )
    rows, problems = _join(file, lines, video, times_s, layout)
    return rows, video, problems


def _pair(xy: np.ndarray) -> str:
    return f"({xy[0]:g}, {xy[1]:g})"


def _times(ref: VideoRef, info: VideoInfo) -> np.ndarray:
    """Presentation times; decoded where the rate varies, because frame / fps would be wrong there."""
    if not info.variable_rate:
        return np.arange(info.frames) / info.fps
    viewport = Viewport(info.size_wh_px, (16, 16))
    with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info, viewport=viewport) as reader:
        return np.concatenate([batch.pts_s for batch in reader])


def _join(
    file: LabelFile, lines: Sequence[Line], video: DatasetVideo, times_s: np.ndarray, layout: PointFormat
) -> tuple[pa.Table, list[str]]:
    """Rows of a label file on its video: frames by number or image name, coordinates in source px."""
    problems: list[str] = []
    if len(lines) != video.frames:
        problems.append(f"{file.key} has {len(lines)} labels, its video has {video.frames} frames")
    numbers = {name: i for i, name in enumerate(frame_names(video.ref.uri))} if isinstance(lines[0].frame, str) else {}
    size = np.array([video.width_px, video.height_px], float)
    xy = np.array([[line.x, line.y] for line in lines])
    xy_px = xy * size if layout.normalised else xy
    outside = np.any(np.abs(xy_px - (size - 1) / 2) > size * (0.5 + OVERHANG), axis=1)
    frame = np.empty(len(lines), np.int64)
    for i, line in enumerate(lines):
        number = line.frame if isinstance(line.frame, int) else numbers.get(line.frame, -1)
        frame[i] = number
        if not 0 <= number < video.frames:
            problems.append(f"{file.key} labels frame {line.frame}, its video has {video.frames} frames")
        elif outside[i]:
            problems.append(
                f"{file.key} frame {line.frame} lies at {_pair(xy_px[i])} px, outside the {_pair(size)} picture"
            )
    if problems:
        return ROWS.empty_table(), problems
    order = np.argsort(frame)
    if file.keep is not None:
        order = order[(frame[order] >= file.keep[0]) & (frame[order] < file.keep[1])]
    track = Trajectory(
        frame=frame[order],
        pts_s=times_s[frame[order]],
        xy_px=xy_px[order].astype(np.float32),
        score=np.full(len(order), np.nan, np.float32),
        visibility=np.array([line.visibility.value for line in lines], object)[order],
        provenance=np.full(len(order), Provenance.LABELLED.value, object),
    )
    return track.to_rows(video.ref.uri), problems

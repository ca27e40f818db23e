"""Label files and videos joined into rows."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from specktrack.datasets.box_importing import BENCHMARKS
from specktrack.datasets.dataset import Dataset, DatasetVideo, make_dataset
from specktrack.datasets.formats import FORMATS, LabelFormat
from specktrack.datasets.label_files import LabelFile, VideoFinder, find_labels, is_corrected, recognise
from specktrack.datasets.lines import Line, Sheet, refuse
from specktrack.errors import ConfigError, LabelError, MediaError, StorageError
from specktrack.frames import Trajectory, Viewport
from specktrack.schema import ROWS, Clip, Provenance, VideoRef, Visibility
from specktrack.storage import Store, frame_names, open_store, stat
from specktrack.video import VideoInfo
from specktrack.video.confined import probe, read_clip

OVERHANG = 0.02
"""Share of the picture's size by which a centre may lie outside: annotators click half-visible balls at the rim."""


@dataclass(frozen=True)
class _Source:
    """Where labels and videos are."""

    store: Store
    layout: LabelFormat
    finder: VideoFinder
    labels_only_wh_px: tuple[int, int] | None


@dataclass(frozen=True)
class _Part:
    """What one sheet became: rows and video, or the problems that forbid its use."""

    rows: pa.Table
    video: DatasetVideo | None
    problems: list[str]
    note: str = ""


def read_layout(
    layout: str, store: Store, *, labels_only_wh_px: tuple[int, int] | None = None, videos: str | None = None
) -> Dataset:
    """Read all label files of a format (or ``auto``) below ``store`` and join them with their videos.

    ``videos`` is another place where these are. Raises LabelError naming every problem, ConfigError for an unknown
    format.
    """
    if layout not in (*FORMATS, "auto"):
        raise ConfigError(
            "no such format of labels", layout, remedy=f"one of auto, {', '.join((*FORMATS, *BENCHMARKS))}"
        )
    chosen = recognise(store) if layout == "auto" else FORMATS[layout]
    known = f"known are {'; '.join(f'{item.name}: {item.about}' for item in FORMATS.values())}"
    if chosen is None:
        raise LabelError("no dataset.json and no label files of a known format", place=store.uri, remedy=known)
    files = find_labels(store, chosen)
    if not files:
        raise LabelError(f"no label files of the format {chosen.name}", place=store.uri, remedy=known)
    finder = VideoFinder(store, open_store(videos) if videos is not None else None)
    source = _Source(store, chosen, finder, labels_only_wh_px)
    with ThreadPoolExecutor(8) as pool:
        parts = [part for read in pool.map(lambda file: _read_file(file, source), files) for part in read]
    refuse([problem for part in parts for problem in part.problems])
    refuse(_twice(parts))
    labelled = [part.video for part in parts if part.video is not None]
    return make_dataset(
        pa.concat_tables([part.rows for part in parts]).combine_chunks(),
        tuple(labelled),
        name=VideoRef(uri=store.uri, etag="", size_bytes=0).name,
        layout=chosen.name,
        source=store.uri,
        notes=tuple(_notes(files, parts)),
    )


def _twice(parts: Sequence[_Part]) -> list[str]:
    uris = [part.video.ref.uri for part in parts if part.video is not None]
    return sorted({f"{uri} has labels in two files" for uri in uris if uris.count(uri) > 1})


def _notes(files: Sequence[LabelFile], parts: Sequence[_Part]) -> list[str]:
    notes = [part.note for part in parts if part.note]
    if dropped := [file for file in files if file.keep is not None]:
        notes.append(f"drop_frame.json: frames outside the kept range are left out in {len(dropped)} videos")
    if corrected := [file for file in files if is_corrected(file.key)]:
        notes.append(f"corrected labels in {len(corrected)} videos")
    if alone := [part for part in parts if part.video is not None and part.video.labels_only]:
        notes.append(f"labels only: {len(alone)} videos are not there; their size was given by hand")
    return notes


def _read_file(file: LabelFile, source: _Source) -> list[_Part]:
    """Rows and video of every sheet of a label file."""
    sheets, problems = source.layout.read(source.store.get(file.key), file.key)
    if problems:
        return [_refused(*problems)]
    return [_read_sheet(sheet, file, source) for sheet in sheets]


def _refused(*problems: str) -> _Part:
    return _Part(ROWS.empty_table(), None, list(problems))


def _read_sheet(sheet: Sheet, file: LabelFile, source: _Source) -> _Part:
    uri = source.finder.named(sheet.video) if sheet.video else None
    uri = uri or source.finder.at(file.places)
    if uri is None:
        wanted = sheet.video or (file.places[0] if file.places[0].endswith("/") else f"{file.places[0]}.mp4")
        if source.labels_only_wh_px is None:
            return _refused(
                f"{file.key} has no video beside it ({wanted}); --videos names the place where videos are,"
                " labels_only_wh_px imports labels alone"
            )
        video = _labels_only(sheet, wanted, source.store, source.labels_only_wh_px)
        times_s = np.arange(video.frames) / video.fps
    else:
        try:
            ref = stat(uri)
            info = probe(ref)
            times_s = _times(ref, info)
        except (MediaError, StorageError, ConfigError) as error:
            return _refused(f"{file.key}: its video cannot be read: {error}")
        size = {"width_px": info.width_px, "height_px": info.height_px}
        video = DatasetVideo(ref=ref, fps=info.fps, frames=info.frames, **size)
    return _join(sheet, file, video, times_s, source.layout)


def _labels_only(sheet: Sheet, wanted: str, store: Store, wh_px: tuple[int, int]) -> DatasetVideo:
    """A video that is not there, as long as its labels say."""
    numbers = [line.frame for line in sheet.lines if isinstance(line.frame, int)]
    frames = len({line.frame for line in sheet.lines})
    if sheet.looked_at is not None:
        last = max(numbers, default=-1) + 1
        frames = sheet.frames or (sheet.looked_at.stop if sheet.looked_at.stop < 2**40 else last)
    uri = wanted if "://" in wanted else store.uri if wanted == "./" else store.uri_of(wanted.rstrip("/"))
    uri += "/" if wanted.endswith("/") and not uri.endswith("/") else ""
    ref = VideoRef(uri=uri, etag="", size_bytes=0)
    return DatasetVideo(ref=ref, width_px=wh_px[0], height_px=wh_px[1], fps=30.0, frames=frames, labels_only=True)


def _times(ref: VideoRef, info: VideoInfo) -> np.ndarray:
    """Presentation times; decoded where the rate varies, because frame / fps would be wrong there."""
    if not info.variable_rate:
        return np.arange(info.frames) / info.fps
    viewport = Viewport(info.size_wh_px, (16, 16))
    with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info, viewport=viewport) as reader:
        return np.concatenate([batch.pts_s for batch in reader])


def _pair(xy: np.ndarray) -> str:
    return f"({xy[0]:g}, {xy[1]:g})"


def _join(sheet: Sheet, file: LabelFile, video: DatasetVideo, times_s: np.ndarray, layout: LabelFormat) -> _Part:
    """Rows of a sheet on its video: frames by number or image name, coordinates in source px."""
    frame = _frame_numbers(sheet.lines, video, layout)
    size = np.array([video.width_px, video.height_px], float)
    unit = size if layout.normalised else np.ones(2)
    xy_px = np.array([[line.x, line.y] for line in sheet.lines]).reshape(-1, 2) * unit - layout.edge_px
    wh_px = np.array([[line.w, line.h] for line in sheet.lines]).reshape(-1, 2) * unit
    problems = _length_problems(sheet, file.key, video, frame)
    outside = np.any(np.abs(xy_px - (size - 1) / 2) > size * (0.5 + OVERHANG), axis=1)
    for i, line in enumerate(sheet.lines):
        if not 0 <= frame[i] < video.frames:
            problems.append(f"{file.key} labels frame {line.frame}, its video has {video.frames} frames")
        elif outside[i]:
            place = f"{file.key} frame {line.frame}"
            problems.append(f"{place} lies at {_pair(xy_px[i])} px, outside the {_pair(size)} picture")
    number = np.array([line.object for line in sheet.lines], int)
    pairs = set(zip(number.tolist(), frame.tolist(), strict=True))
    if len(pairs) < len(frame):
        problems.append(f"{file.key} has an object twice in one frame")
    if problems:
        return _refused(*problems)
    looked_at = _looked_at(sheet, frame, video, file.keep)
    tables = []
    for each in sorted({0, *number.tolist()}):
        mine = np.flatnonzero(number == each)
        lines = [sheet.lines[i] for i in mine]
        track = _track(lines, frame[mine], xy_px[mine], wh_px[mine], looked_at, times_s)
        tables.append(track.to_rows(video.ref.uri, object_id=each))
    note = ""
    if sheet.looked_at is not None and len(looked_at) < video.frames:
        note = f"{file.key}: {len(looked_at)} of {video.frames} frames were looked at"
    return _Part(pa.concat_tables(tables), video, [], note)


def _frame_numbers(lines: Sequence[Line], video: DatasetVideo, layout: LabelFormat) -> np.ndarray:
    """int64 [N]; -1 for an image that is not there."""
    named = any(isinstance(line.frame, str) for line in lines)
    if not named and not (layout.numbered_by_name and video.ref.uri.endswith("/") and not video.labels_only):
        return np.array([line.frame for line in lines], np.int64)
    names = frame_names(video.ref.uri)
    if named:
        numbers: dict[int | str, int] = {name: i for i, name in enumerate(names)}
    else:
        found = [re.search(r"(\d+)$", PurePosixPath(name).stem) for name in names]
        numbers = {int(number[1]): i for i, number in enumerate(found) if number}
    return np.array([numbers.get(line.frame, -1) for line in lines], np.int64)


def _length_problems(sheet: Sheet, key: str, video: DatasetVideo, frame: np.ndarray) -> list[str]:
    """What says that the labels are of another video, or that frames were counted in another way."""
    if sheet.looked_at is None and len(set(frame.tolist())) != video.frames:
        return [f"{key} has {len(set(frame.tolist()))} labels, its video has {video.frames} frames"]
    if sheet.frames is not None and sheet.frames != video.frames:
        return [
            f"{key} counts {sheet.frames} frames in {sheet.video or 'its video'}, which has {video.frames}: set the"
            f" frame rate of the annotating tool to {video.fps:g}"
        ]
    if sheet.looked_at is not None and video.frames < sheet.looked_at.stop < 2**40:
        return [f"{key} goes to frame {sheet.looked_at.stop - 1}, its video has {video.frames} frames"]
    return []


def _looked_at(sheet: Sheet, frame: np.ndarray, video: DatasetVideo, keep: tuple[int, int] | None) -> np.ndarray:
    """Frames that become rows, in order."""
    if sheet.looked_at is None:
        frames = np.unique(frame)
    else:
        whole = range(sheet.looked_at.start, min(sheet.looked_at.stop, video.frames), sheet.looked_at.step)
        frames = np.union1d(np.array(whole, np.int64), frame)
    return frames if keep is None else frames[(frames >= keep[0]) & (frames < keep[1])]


def _track(
    lines: Sequence[Line],
    frame: np.ndarray,
    xy_px: np.ndarray,
    wh_px: np.ndarray,
    looked_at: np.ndarray,
    times_s: np.ndarray,
) -> Trajectory:
    """One object in all frames that were looked at; absent where it has no line."""
    n = len(looked_at)
    at = np.searchsorted(looked_at, frame)
    kept = (at < n) & np.isin(frame, looked_at)
    at, chosen = at[kept], np.flatnonzero(kept).tolist()
    xy, wh = np.full((n, 2), np.nan, np.float32), np.full((n, 2), np.nan, np.float32)
    xy[at], wh[at] = xy_px[chosen], wh_px[chosen]
    words = np.full(n, Visibility.ABSENT.value, object)
    words[at] = [lines[i].visibility.value for i in chosen]
    filled = np.zeros(n, bool)
    filled[at] = [lines[i].interpolated for i in chosen]
    provenance = np.where(filled, Provenance.INTERPOLATED.value, Provenance.LABELLED.value).astype(object)
    return Trajectory(
        frame=looked_at, pts_s=times_s[looked_at], xy_px=xy, score=np.full(n, np.nan, np.float32), visibility=words,
        provenance=provenance, wh_px=wh, gap=_gaps(filled, looked_at),
    )  # fmt: skip


def _gaps(filled: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Length of the run of filled rows that a filled row belongs to, else 0; int32 [N]."""
    starts = filled & ~(np.concatenate([[False], filled[:-1]]) & (np.diff(frame, prepend=-1) == 1))
    run = np.cumsum(starts) * filled
    return np.where(filled, np.bincount(run, weights=filled, minlength=1)[run], 0).astype(np.int32)

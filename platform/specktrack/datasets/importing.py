"""Label files and videos joined into rows."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa

from specktrack import telemetry
from specktrack.datasets.dataset import Dataset, DatasetVideo, make_dataset
from specktrack.datasets.label_files import (
    LabelFile,
    VideoFinder,
    file_name,
    find_labels,
    folded,
    is_corrected,
    nearest,
    unread,
)
from specktrack.datasets.layouts import LAYOUTS, Layout
from specktrack.datasets.lines import ALL_FRAMES, Line, Sheet, refuse
from specktrack.datasets.objects import NEAR_SHARE, choose_objects
from specktrack.errors import LabelError, SpecktrackError
from specktrack.frames import Trajectory
from specktrack.schema import ROWS, Provenance, VideoRef, Visibility
from specktrack.storage import Store, frame_names, open_store, stat
from specktrack.video import frame_times, probe

OVERHANG = 0.02
"""Share of the picture's size by which a centre may lie outside: annotators click half-visible balls at the rim."""

Missing = Literal["absent", "unlabelled"]


@dataclass(frozen=True)
class ImportOptions:
    """Facts about labels that their files do not state."""

    videos: str | None = None
    """Where the videos are, if not beside their labels."""
    labels_only_wh_px: tuple[int, int] | None = None
    """Size of the pictures, for labels whose videos are not there at all."""
    label: str | None = None
    """Which label is the ball, where a file has several."""
    missing: Missing | None = None
    """Meaning of frames without a label, if a file should have one for each; None refuses them."""
    split: str | None = None
    """Which part of a box benchmark, by the list beside its labels."""
    stream: int | None = None
    """Which video stream was labelled, where a file has several; None: the best."""


@dataclass(frozen=True)
class _Source:
    """Where labels and videos are."""

    store: Store
    layout: Layout
    finder: VideoFinder
    options: ImportOptions


@dataclass(frozen=True)
class _Part:
    """The result of importing one sheet: rows and video, or the problems that forbid its use."""

    rows: pa.Table
    video: DatasetVideo | None
    problems: list[str]
    notes: list[str]


def read_layout(name: str, store: Store, options: ImportOptions) -> Dataset:
    """Read all label files of a layout below ``store`` and join them with their videos; LabelError has all problems."""
    finder = VideoFinder(store, open_store(options.videos) if options.videos is not None else None)
    layout = LAYOUTS[name]
    files = find_labels(store, layout, finder)
    if not files:
        what = f"no label files of the format {layout.name} ({layout.about})"
        raise LabelError(what, place=store.uri, remedy=nearest(store) or "give the folder with the labels and videos")
    source = _Source(store, layout, finder, options)
    with ThreadPoolExecutor(8) as pool:
        parts = [part for read in pool.map(lambda file: _read_file(file, source), files) for part in read]
    refuse([problem for part in parts for problem in part.problems])
    refuse(_twice(parts))
    labelled = tuple(part.video for part in parts if part.video is not None)
    notes = [*_notes(files, parts), *unread(store, layout, files, [video.ref.uri for video in labelled], finder)]
    for note in notes:
        telemetry.get_logger().warning("note about the labels", note=note)
    return make_dataset(
        pa.concat_tables([part.rows for part in parts]).combine_chunks(),
        labelled,
        name=VideoRef(uri=store.uri, etag="", size_bytes=0).name,
        layout=layout.name,
        source=store.uri,
        notes=tuple(notes),
    )


def _twice(parts: Sequence[_Part]) -> list[str]:
    uris = [part.video.ref.uri for part in parts if part.video is not None]
    return sorted({f"{uri} has labels in two files" for uri in uris if uris.count(uri) > 1})


def _notes(files: Sequence[LabelFile], parts: Sequence[_Part]) -> list[str]:
    notes = [note for part in parts for note in part.notes]
    if dropped := [file for file in files if file.keep is not None]:
        notes.append(f"drop_frame.json: frames outside the kept range are dropped in {len(dropped)} videos")
    if corrected := [file for file in files if is_corrected(file.key)]:
        notes.append(f"corrected labels in {len(corrected)} videos")
    if alone := [part for part in parts if part.video is not None and part.video.labels_only]:
        notes.append(f"labels only: {len(alone)} videos are missing; their size was given")
    return notes


def _read_file(file: LabelFile, source: _Source) -> list[_Part]:
    """Rows and video of every sheet of a label file."""
    sheets, problems = source.layout.read({key: source.store.get(key) for key in file.keys})
    if problems:
        return [_refused(*problems)]
    return [_read_sheet(sheet, file, source) for sheet in sheets]


def _refused(*problems: str) -> _Part:
    return _Part(ROWS.empty_table(), None, list(problems), [])


def _read_sheet(sheet: Sheet, file: LabelFile, source: _Source) -> _Part:
    uri = source.finder.named(sheet.video) if sheet.video else None
    uri = uri or source.finder.at(file.places, file.key)
    if uri is None:
        wanted = _wanted(sheet, file)
        if source.options.labels_only_wh_px is None:
            return _refused(
                f"{file.key} has no video beside it ({wanted}); --videos names the place where videos are,"
                " --labels-only-wh-px imports labels alone"
            )
        video = _labels_only(sheet, wanted, source.store, source.options.labels_only_wh_px)
        times_s = np.arange(video.frames) / video.fps
    else:
        try:
            ref = stat(uri, stream=source.options.stream)
            info = probe(ref)
            times_s = frame_times(ref, info)
        except SpecktrackError as error:
            return _refused(f"{file.key}: its video cannot be read: {error}")
        size = {"width_px": info.width_px, "height_px": info.height_px}
        video = DatasetVideo(ref=ref, fps=info.fps, frames=info.frames, **size)
    return _join(sheet, file, video, times_s, source)


def _wanted(sheet: Sheet, file: LabelFile) -> str:
    """Name of a video that is not there: a URI that can be kept, or a key."""
    if re.match(r"(s3|file)://", sheet.video):
        return sheet.video
    if sheet.video:
        return file_name(sheet.video) or "video.mp4"
    return file.places[0] if file.places[0].endswith("/") else f"{file.places[0]}.mp4"


def _labels_only(sheet: Sheet, wanted: str, store: Store, wh_px: tuple[int, int]) -> DatasetVideo:
    """A video that is not there, as long as its labels say."""
    first = _first_number(sheet, None)
    numbers = [_number_in(frame) if isinstance(frame, str) else frame for frame in _listed(sheet)]
    last = max((number for number in numbers if number is not None), default=-1) - first
    if isinstance(sheet.looked_at, range) and sheet.looked_at.stop < ALL_FRAMES.stop:
        last = sheet.looked_at.stop - 1
    frames = sheet.frames or last + 1
    uri = wanted if "://" in wanted else store.uri if wanted == "./" else store.uri_of(wanted.rstrip("/"))
    uri += "/" if wanted.endswith("/") and not uri.endswith("/") else ""
    ref = VideoRef(uri=uri, etag="", size_bytes=0)
    return DatasetVideo(ref=ref, width_px=wh_px[0], height_px=wh_px[1], fps=30.0, frames=frames, labels_only=True)


# --- frames ---------------------------------------------------------------------------------------------------------


def _listed(sheet: Sheet) -> set[int | str]:
    """Frame numbers or names that the sheet uses."""
    named = () if sheet.looked_at is None or isinstance(sheet.looked_at, range) else sheet.looked_at
    return {line.frame for line in sheet.lines} | set(named)


def _number_in(name: str) -> int | None:
    digits = re.search(r"(\d{1,12})\D*$", PurePosixPath(name).stem)
    return int(digits[1]) if digits else None


def _first_number(sheet: Sheet, frames: int | None) -> int:
    """0 or 1: where the numbers in names of images begin, on a video of so many frames or one that is not there."""
    known = [number for name in _listed(sheet) if isinstance(name, str) and (number := _number_in(name)) is not None]
    if not known or min(known) == 0:
        return 0
    return int(min(known) == 1 if frames is None else max(known) == frames)


class _Frames:
    """Turns what label files call frames into their numbers on one video; -1 for what is not there."""

    def __init__(self, sheet: Sheet, video: DatasetVideo, *, numbered_by_name: bool) -> None:
        is_folder = video.ref.uri.endswith("/") and not video.labels_only
        names = frame_names(video.ref.uri) if is_folder else []
        self._first = 0 if names else _first_number(sheet, None if video.labels_only else video.frames)
        self._known: list[dict[int | str | None, int]] = []
        """Pictures by name, by name without regard to case and suffix, and by the number in it."""
        for as_known in (str, _bare, _number_in):
            known = [as_known(name) for name in names]
            count = Counter(known)
            self._known.append({name: i for i, name in enumerate(known) if count[name] == 1})
        self._by_number = self._known[2] if numbered_by_name and names else None

    def of(self, frames: Collection[int | str]) -> np.ndarray:
        """int64 [N]."""
        return np.array([self._of(frame) for frame in frames], np.int64)

    def _of(self, frame: int | str) -> int:
        if isinstance(frame, int):
            return frame if self._by_number is None else self._by_number.get(frame, -1)
        exact, bare, numbered = self._known
        if exact:
            return exact.get(frame, bare.get(_bare(frame), numbered.get(_number_in(frame), -1)))
        number = _number_in(frame)
        return -1 if number is None else number - self._first


def _bare(name: str) -> str:
    return folded(PurePosixPath(name).stem)


# --- one sheet on its video -----------------------------------------------------------------------------------------


def _join(sheet: Sheet, file: LabelFile, video: DatasetVideo, times_s: np.ndarray, source: _Source) -> _Part:
    """Rows of a sheet on its video: frames by number or image name, coordinates in source px."""
    layout, options = source.layout, source.options
    frames = _Frames(sheet, video, numbered_by_name=layout.numbered_by_name)
    lines = [each for line in sheet.lines for each in _until_the_end(line, video.frames)]
    frame = frames.of([line.frame for line in lines])
    seen = _looked_at(sheet, frame, frames, video)
    size = np.array([video.width_px, video.height_px], float)
    unit = size if layout.normalised else np.ones(2)
    xy_px = np.array([[line.x, line.y] for line in lines]).reshape(-1, 2) * unit - layout.edge_px
    wh_px = np.array([[line.w, line.h] for line in lines]).reshape(-1, 2) * unit
    if problems := _misfits(sheet, video, options.missing) or _impossible(lines, frame, seen, xy_px, video):
        return _refused(*(f"{file.key} {problem}" for problem in problems))
    near_px = NEAR_SHARE * video.width_px
    numbered = [replace(line, frame=int(number)) for line, number in zip(lines, frame, strict=True)]
    chosen = choose_objects(numbered, sheet.tracks, xy_px, wh_px, label=options.label, near_px=near_px)
    if chosen.problems:
        return _refused(*(f"{file.key} {problem}" for problem in chosen.problems))
    if options.missing == "absent" and _is_whole(sheet):
        seen = np.arange(video.frames)
    if file.keep is not None:
        seen = seen[(seen >= file.keep[0]) & (seen < file.keep[1])]
    number = np.array([line.track for line in chosen.lines], int)
    tables = []
    for each in sorted({0, *number.tolist()}):
        mine = np.flatnonzero(number == each)
        kept = [chosen.kept[i] for i in mine]
        track = _track([chosen.lines[i] for i in mine], frame[kept], xy_px[kept], wh_px[kept], seen, times_s)
        tables.append(track.to_rows(video.ref.uri, object_id=each))
    notes = [*sheet.notes, *chosen.notes, *_overhanging(xy_px[chosen.kept], size)]
    if len(seen) < video.frames and file.keep is None:
        notes.append(f"{len(seen)} of {video.frames} frames were looked at")
    return _Part(pa.concat_tables(tables), video, [], [f"{file.key}: {note}" for note in notes])


def _until_the_end(line: Line, frames: int) -> list[Line]:
    """A line, and those that the annotating tool shows of it after its last key."""
    if not line.lasts or not isinstance(line.frame, int):
        return [line]
    return [line, *(replace(line, frame=after, interpolated=True) for after in range(line.frame + 1, frames))]


def _is_whole(sheet: Sheet) -> bool:
    return sheet.whole or sheet.looked_at is None


def _looked_at(sheet: Sheet, frame: np.ndarray, frames: _Frames, video: DatasetVideo) -> np.ndarray:
    """Frames that become rows, in order; those that are not in the video too."""
    if sheet.looked_at is None:
        return np.unique(frame)
    if isinstance(sheet.looked_at, range):
        whole = range(sheet.looked_at.start, min(sheet.looked_at.stop, video.frames), sheet.looked_at.step)
        return np.union1d(np.array(whole, np.int64), frame)
    return np.union1d(frames.of(sheet.looked_at), frame)


def _counted(video: DatasetVideo) -> str:
    return f"{video.frames} {'pictures' if video.ref.uri.endswith('/') else 'frames'}"


def _misfits(sheet: Sheet, video: DatasetVideo, missing: Missing | None) -> list[str]:
    """Signs that the labels are of another video, or that frames were counted differently."""
    listed = _listed(sheet)
    n, counted = len(listed), _counted(video)
    if sheet.wh_px is not None and sheet.wh_px != (video.width_px, video.height_px):
        made = f"{sheet.wh_px[0]}x{sheet.wh_px[1]}"
        return [
            f"was made on pictures of {made}, but its video has {video.width_px}x{video.height_px}: label the video"
        ]
    if n == video.frames and _is_whole(sheet) and listed == set(range(1, n + 1)):
        return [f"counts frames from 1 to {n}; in this format they count from 0"]
    if _is_whole(sheet) and n > video.frames:
        return [f"has {n} labels, but its video has {counted}"]
    if _is_whole(sheet) and n < video.frames and missing is None:
        remedy = "say what the others are with --missing absent or --missing unlabelled"
        return [f"has {n} labels, but its video has {counted}; {remedy}"]
    if sheet.frames is not None and sheet.frames != video.frames:
        return [
            f"counts {sheet.frames} frames in {file_name(sheet.video) or 'its video'}, which has {video.frames}:"
            f" set the frame rate of the annotating tool to {video.fps:g}"
        ]
    last = sheet.looked_at.stop - 1 if isinstance(sheet.looked_at, range) else -1
    if video.frames <= last < ALL_FRAMES.stop - 1:
        return [f"goes to frame {last}, but its video has {counted}"]
    if video.labels_only or video.ref.uri.endswith("/"):
        return []
    known = [number for name in listed if isinstance(name, str) and (number := _number_in(name)) is not None]
    if known and min(known) > 0 and max(known) < video.frames:
        return [
            f"names images {min(known)} to {max(known)} of a video of {counted}, so it is unclear whether they"
            " count from 0 or from 1: give the folder of the pictures with --videos"
        ]
    return []


def _impossible(
    lines: Sequence[Line], frame: np.ndarray, seen: np.ndarray, xy_px: np.ndarray, video: DatasetVideo
) -> list[str]:
    """Labels beyond the video's end or its picture."""
    size = np.array([video.width_px, video.height_px], float)
    beyond = [str(lines[i].frame) for i in np.flatnonzero((frame < 0) | (frame >= video.frames)).tolist()]
    lost = beyond or [str(number) for number in seen if not 0 <= number < video.frames]
    outside = np.flatnonzero(np.any(np.abs(xy_px - (size - 1) / 2) > size * (0.5 + OVERHANG), axis=1)).tolist()
    problems = []
    if lost:
        problems.append(f"labels frame {lost[0]}, but its video has {_counted(video)}{_more(lost)}")
    if len(outside):
        place = f"frame {lines[outside[0]].frame} lies at {_pair(xy_px[outside[0]])} px"
        problems.append(f"{place}, outside the {_pair(size)} picture{_more(outside)}")
    return problems


def _more(found: Sequence[object]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _overhanging(xy_px: np.ndarray, size: np.ndarray) -> list[str]:
    outside = int(np.any(np.abs(xy_px - (size - 1) / 2) > size / 2, axis=1).sum())
    return [f"{outside} positions lie just outside the picture and are kept"] if outside else []


def _pair(xy: np.ndarray) -> str:
    return f"({xy[0]:g}, {xy[1]:g})"


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
    kinds = np.full(n, None, object)
    kinds[at] = [lines[i].kind for i in chosen]
    filled = np.zeros(n, bool)
    filled[at] = [lines[i].interpolated for i in chosen]
    provenance = np.where(filled, Provenance.INTERPOLATED.value, Provenance.LABELLED.value).astype(object)
    return Trajectory(
        frame=looked_at, pts_s=times_s[looked_at], xy_px=xy, score=np.full(n, np.nan, np.float32), visibility=words,
        provenance=provenance, wh_px=wh, gap=_gaps(filled, looked_at), kind=kinds,
    )  # fmt: skip


def _gaps(filled: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Length of the run of filled rows that a filled row belongs to, else 0; int32 [N]."""
    starts = filled & ~(np.concatenate([[False], filled[:-1]]) & (np.diff(frame, prepend=-1) == 1))
    run = np.cumsum(starts) * filled
    return np.where(filled, np.bincount(run, weights=filled, minlength=1)[run], 0).astype(np.int32)

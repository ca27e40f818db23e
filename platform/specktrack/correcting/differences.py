"""The differences between old and new rows: which frames a person corrected, and how."""

import io
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from pydantic import Field

from specktrack.config import Config, VerbConfig
from specktrack.datasets.row_files import store_of
from specktrack.datasets.rows import pair_videos, read_rows
from specktrack.errors import ConfigError
from specktrack.schema import Visibility
from specktrack.storage import to_uri
from specktrack.storage.places import Place

KINDS = {
    "unchanged": "the same within the tolerance",
    "moved": "present in both, farther apart than the tolerance",
    "appeared": "absent before, present now: it was missed",
    "vanished": "present before, absent now: it was not there",
    "resized": "in its place, with another size",
    "reworded": "in its place, with another visibility",
    "added": "a frame that had no row",
    "left out": "a frame that has no row any more",
}
"""Kinds of change to an object in a frame; the last that fits applies."""
_KEYS = ("video", "object", "frame")
_VALUES = ("x", "y", "w", "h", "visibility")


class DataDiffConfig(VerbConfig):
    """Say what is another in new rows or labels: what was corrected, by kind."""

    verb: ClassVar[str] = "data_diff"

    old: Place
    """The old rows or labels: an output of annotate, a file of rows, or a dataset."""
    new: Place
    """The new rows or labels. Videos are matched by URI, then by a unique file name."""
    output: Place | None = None
    """A .csv file for the changed frames, with both positions."""
    tolerance_px: float = Field(default=0.5, ge=0)
    """Positions and sizes that differ by no more than this, in source px, count as equal, because formats round."""


class Changes(Config):
    """Frames by kind of change."""

    unchanged: int = 0
    moved: int = 0
    appeared: int = 0
    vanished: int = 0
    resized: int = 0
    reworded: int = 0
    added: int = 0
    left_out: int = 0


class VideoChanges(Config):
    """One video's part."""

    video: str
    """URI in the new rows."""
    changes: Changes


class DiffReport(Config):
    """The changes found."""

    frames: int
    """Frames and objects that either side has a row of."""
    corrected: float
    """Share of them that is another."""
    changes: Changes
    moved_px: dict[str, float]
    """Percentiles of how far positions moved, source px; none if none did."""
    per_video: tuple[VideoChanges, ...]
    only_old: tuple[str, ...]
    """Videos that only the old rows have; not counted."""
    only_new: tuple[str, ...]


def data_diff(config: DataDiffConfig) -> DiffReport:
    """Compare; ConfigError if the rows have no video in common."""
    old, new = read_rows(config.old), read_rows(config.new)
    old_uris, new_uris = (pc.unique(rows["video"]).to_pylist() for rows in (old, new))
    pairs = pair_videos(new_uris, old_uris)
    if not pairs:
        remedy = "videos are matched by URI, then by a unique file name"
        raise ConfigError("the rows have no video in common", config.new, config.old, remedy)
    changed = compare(_renamed(old, {other: uri for uri, other in pairs.items()}), _of(new, pairs), config.tolerance_px)
    if config.output is not None:
        _write(changed, config.output)
    kinds = np.array(changed["kind"].to_pylist(), object)
    videos = np.array(changed["video"].to_pylist(), object)
    moved_px = changed["moved_px"].to_numpy()[kinds == "moved"]
    return DiffReport(
        frames=len(kinds),
        corrected=round(float((kinds != "unchanged").mean()), 4),
        changes=_counted(kinds),
        moved_px={f"p{p}": round(float(np.percentile(moved_px, p)), 2) for p in (50, 90, 100)} if len(moved_px) else {},
        per_video=tuple(VideoChanges(video=uri, changes=_counted(kinds[videos == uri])) for uri in pairs),
        only_old=tuple(uri for uri in old_uris if uri not in pairs.values()),
        only_new=tuple(uri for uri in new_uris if uri not in pairs),
    )


def compare(old: pa.Table, new: pa.Table, tolerance_px: float) -> pa.Table:
    """Both rows of each object in each frame side by side, with ``kind`` (of KINDS) and ``moved_px``, in order."""
    both = _plain(old).join(
        _plain(new), list(_KEYS), join_type="full outer", left_suffix="_old", right_suffix="_new", use_threads=False
    )
    both = both.sort_by([(name, "ascending") for name in _KEYS])
    before, after = _numbers(both, "old"), _numbers(both, "new")
    words = [np.array(both[f"visibility_{side}"].to_pylist(), object) for side in ("old", "new")]
    absent = [word == Visibility.ABSENT.value for word in words]
    missing = [np.array([text is None for text in word], bool) for word in words]
    moved_px = np.linalg.norm(after[:, :2] - before[:, :2], axis=1)
    with np.errstate(invalid="ignore"):
        size_px = np.abs(after[:, 2:] - before[:, 2:]).max(axis=1)
        sized = np.isnan(before[:, 2:]).any(axis=1) != np.isnan(after[:, 2:]).any(axis=1)
        conditions = {
            "left out": missing[1],
            "added": missing[0],
            "vanished": ~absent[0] & absent[1],
            "appeared": absent[0] & ~absent[1],
            "moved": moved_px > tolerance_px,
            "resized": (size_px > tolerance_px) | (sized & ~absent[0]),
            "reworded": words[0] != words[1],
        }
    kind = np.select(list(conditions.values()), list(conditions), "unchanged")
    return both.append_column("kind", pa.array(kind.tolist())).append_column("moved_px", pa.array(moved_px))


def _plain(rows: pa.Table) -> pa.Table:
    """The columns that are compared; words as text, which Arrow can join."""
    columns = {name: rows[name] for name in (*_KEYS, *_VALUES[:-1])}
    return pa.table(columns | {"visibility": rows["visibility"].cast(pa.string())})


def _numbers(both: pa.Table, side: str) -> np.ndarray:
    """float64 [N, 4]: x, y, w, h; NaN where null."""
    columns = [both[f"{name}_{side}"].to_numpy(zero_copy_only=False).astype(float) for name in _VALUES[:-1]]
    return np.stack(columns, axis=1)


def _renamed(rows: pa.Table, names: dict[str, str]) -> pa.Table:
    kept = _of(rows, names)
    videos = pa.array([names[uri] for uri in kept["video"].to_pylist()], pa.string())
    return kept.set_column(kept.column_names.index("video"), "video", videos)


def _of(rows: pa.Table, videos: Sequence[str] | dict[str, str]) -> pa.Table:
    return rows.filter(pc.is_in(rows["video"], pa.array(list(videos), pa.string())))


def _counted(kinds: np.ndarray) -> Changes:
    return Changes(**{kind.replace(" ", "_"): int((kinds == kind).sum()) for kind in KINDS})


def _write(changed: pa.Table, place: str) -> None:
    if not place.lower().endswith(".csv"):
        raise ConfigError(
            "the name of a file of changes must end in .csv", place, remedy="give a name that ends in .csv"
        )
    sink = io.BytesIO()
    pa_csv.write_csv(changed.filter(pc.not_equal(changed["kind"], "unchanged")), sink)
    store, key = store_of(to_uri(place))
    store.put(key, sink.getvalue())

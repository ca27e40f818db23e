"""Frames and positions in memory: Viewport, FrameBatch, Trajectory.

One coordinate order, x then y. An integer coordinate is a pixel's centre. Suffix ``_px`` is source px, ``_net``
network px.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specktrack.schema import ROWS, Provenance, Visibility


@dataclass(frozen=True)
class Viewport:
    """The mapping between source px and network px: a resize without crop or padding."""

    source_wh_px: tuple[int, int]
    network_wh_px: tuple[int, int]
    luma: bool = False
    """Whether frames come with their luma at source size too, see ``FrameBatch.luma``."""

    def __post_init__(self) -> None:
        if min(*self.source_wh_px, *self.network_wh_px) < 1:
            raise ValueError(f"a viewport needs positive sizes, got {self.source_wh_px} and {self.network_wh_px}")

    @classmethod
    def fit(cls, source_wh_px: tuple[int, int], input_wh: tuple[int, int], *, multiple: int = 16) -> Self:
        """The viewport that keeps the source's aspect ratio and the area of ``input_wh``, in multiples of ``multiple``.

        A source of the network's own aspect ratio gets exactly ``input_wh``; others are neither stretched nor padded
        (fully convolutional networks take any such size).
        """
        source_w, source_h = source_wh_px
        input_w, input_h = input_wh
        if abs(source_w * input_h - source_h * input_w) <= 0.01 * source_h * input_w:
            return cls(source_wh_px, input_wh)
        aspect = min(max(source_w / source_h, 1 / 4), 4.0)
        height = (input_w * input_h / aspect) ** 0.5
        rounded_w = max(1, round(height * aspect / multiple)) * multiple
        rounded_h = max(1, round(height / multiple)) * multiple
        return cls(source_wh_px, (rounded_w, rounded_h))

    @property
    def scale(self) -> np.ndarray:
        """Network px per source px, float64 [2] as (x, y)."""
        return np.array(self.network_wh_px, float) / np.array(self.source_wh_px, float)

    def to_network(self, xy_px: np.ndarray) -> np.ndarray:
        """Source px [..., 2] to network px [..., 2]."""
        return (np.asarray(xy_px, float) + 0.5) * self.scale - 0.5

    def to_source(self, xy_net: np.ndarray) -> np.ndarray:
        """Network px [..., 2] to source px [..., 2]."""
        return (np.asarray(xy_net, float) + 0.5) / self.scale - 0.5


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames of one video at network size."""

    pixels: np.ndarray
    """uint8 [N, H, W, 3], RGB."""
    frame: np.ndarray
    """int64 [N], rising by one."""
    pts_s: np.ndarray
    """float64 [N], presentation time in seconds."""
    viewport: Viewport
    background: np.ndarray | None = None
    """uint8 [H, W, 3]: the still scene of the whole video, for trackers that want one."""
    luma: np.ndarray | None = None
    """uint8 [N, H, W], brightness at source size, as nothing has been resampled: where the viewport asks for it."""

    def __post_init__(self) -> None:
        n = len(self.frame)
        width, height = self.viewport.network_wh_px
        if self.pixels.shape != (n, height, width, 3) or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels must be uint8 {(n, height, width, 3)}, got {self.pixels.dtype} {self.pixels.shape}"
            )
        if len(self.pts_s) != n or (n > 1 and not (np.diff(self.frame) == 1).all()):
            raise ValueError("frame and pts_s need one entry per picture, and frame must increase by one")
        source_w, source_h = self.viewport.source_wh_px
        if self.luma is not None and (self.luma.shape != (n, source_h, source_w) or self.luma.dtype != np.uint8):
            raise ValueError(f"luma must be uint8 {(n, source_h, source_w)}, got {self.luma.dtype} {self.luma.shape}")

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        span = f"{self.frame[0]}..{self.frame[-1]}" if len(self) else "empty"
        return f"FrameBatch(frames {span}, pixels {self.pixels.shape})"

    def __getitem__(self, rows: slice) -> "FrameBatch":
        luma = None if self.luma is None else self.luma[rows]
        return FrameBatch(self.pixels[rows], self.frame[rows], self.pts_s[rows], self.viewport, self.background, luma)


_DERIVED = np.zeros(0)
"""Stands for a column of a Trajectory that follows from the others."""


@dataclass(frozen=True)
class Trajectory:
    """Where one object is in each of N frames, or several one after the other; NaN exactly where it is absent."""

    frame: np.ndarray
    """int64 [N], 0-based, presentation order."""
    pts_s: np.ndarray
    """float64 [N]."""
    xy_px: np.ndarray
    """float32 [N, 2], source px; NaN where absent."""
    score: np.ndarray
    """float32 [N] in [0, 1]; NaN for labels."""
    visibility: np.ndarray = field(default_factory=lambda: _DERIVED)
    """object [N] of Visibility; derived as clear or absent if not given."""
    provenance: np.ndarray = field(default_factory=lambda: _DERIVED)
    """object [N] of Provenance; ``detected`` if not given."""
    wh_px: np.ndarray = field(default_factory=lambda: _DERIVED)
    """float32 [N, 2], source px; NaN for point trackers."""
    gap: np.ndarray = field(default_factory=lambda: _DERIVED)
    """int32 [N]: length of the gap that a filled row belongs to, else 0."""
    object: np.ndarray = field(default_factory=lambda: _DERIVED)
    """int32 [N]: which of several objects; 0 if not given."""
    kind: np.ndarray = field(default_factory=lambda: _DERIVED)
    """object [N]: the word for what it is, None where nobody knows."""
    kind_score: np.ndarray = field(default_factory=lambda: _DERIVED)
    """float32 [N] in [0, 1]: how probably; NaN where there is no kind, and for labels."""

    def __post_init__(self) -> None:
        n = len(self.frame)
        absent = np.isnan(self.xy_px).any(axis=1) if n else np.zeros(0, bool)
        if self.visibility is _DERIVED:
            words = np.where(absent, Visibility.ABSENT.value, Visibility.CLEAR.value).astype(object)
            object.__setattr__(self, "visibility", words)
        if self.provenance is _DERIVED:
            object.__setattr__(self, "provenance", np.full(n, Provenance.DETECTED.value, object))
        if self.wh_px is _DERIVED:
            object.__setattr__(self, "wh_px", np.full((n, 2), np.nan, np.float32))
        if self.gap is _DERIVED:
            object.__setattr__(self, "gap", np.zeros(n, np.int32))
        if self.object is _DERIVED:
            object.__setattr__(self, "object", np.zeros(n, np.int32))
        if self.kind is _DERIVED:
            object.__setattr__(self, "kind", np.full(n, None, object))
        if self.kind_score is _DERIVED:
            object.__setattr__(self, "kind_score", np.full(n, np.nan, np.float32))
        columns = (
            self.pts_s,
            self.xy_px,
            self.score,
            self.visibility,
            self.provenance,
            self.wh_px,
            self.gap,
            self.object,
            self.kind,
            self.kind_score,
        )
        if any(len(column) != n for column in columns) or self.xy_px.shape != (n, 2):
            raise ValueError(f"a trajectory of {n} frames needs {n} entries in every column and xy_px [{n}, 2]")
        if not ((self.visibility == Visibility.ABSENT.value) == absent).all():
            raise ValueError("a position must be NaN exactly where visibility is 'absent'")

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: slice | np.ndarray) -> "Trajectory":
        return Trajectory(*(getattr(self, column.name)[rows] for column in fields(self)))

    @property
    def present(self) -> np.ndarray:
        """bool [N]: the object has a position."""
        return self.visibility != Visibility.ABSENT.value

    @classmethod
    def empty(cls) -> Self:
        """A trajectory of no frames."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2), np.float32), np.zeros(0, np.float32))

    def between(self, start: int, stop: int) -> "Trajectory":
        """The rows of frames in [start, stop)."""
        return self[(self.frame >= start) & (self.frame < stop)]

    @property
    def frames(self) -> int:
        """Frames that have a row; of several objects each has as many."""
        return len(np.unique(self.frame))

    def of(self, number: int) -> "Trajectory":
        """The rows of one object."""
        return self[self.object == number]

    def to_rows(self, video_uri: str, *, object_id: int | None = None) -> pa.Table:
        """As an Arrow table of the row schema; ``object_id`` instead of the objects' own numbers."""
        n = len(self)

        def or_null(values: np.ndarray) -> pa.Array:
            return pa.array(values.astype(np.float32), mask=np.isnan(values))

        def words(values: np.ndarray) -> pa.Array:
            return pa.array([None if word is None else str(word) for word in values], pa.string()).dictionary_encode()

        columns = {
            "video": pa.array([video_uri] * n, pa.string()),
            "frame": pa.array(self.frame, pa.int64()),
            "pts_s": pa.array(self.pts_s, pa.float64()),
            "object": pa.array(self.object if object_id is None else np.full(n, object_id, np.int32)),
            "x": or_null(self.xy_px[:, 0]),
            "y": or_null(self.xy_px[:, 1]),
            "w": or_null(self.wh_px[:, 0]),
            "h": or_null(self.wh_px[:, 1]),
            "visibility": words(self.visibility),
            "score": or_null(self.score),
            "provenance": words(self.provenance),
            "gap": pa.array(self.gap, pa.int32()),
            "kind": words(self.kind),
            "kind_score": or_null(self.kind_score),
        }
        return pa.table(columns).cast(ROWS)

    @classmethod
    def from_rows(cls, rows: pa.Table) -> Self:
        """The trajectory in rows of one object of one video, ordered by frame."""
        rows = rows.sort_by("frame")

        def floats(*names: str) -> np.ndarray:
            columns = [rows[name].to_numpy(zero_copy_only=False).astype(np.float32) for name in names]
            return np.stack(columns, axis=1)

        def words(name: str) -> np.ndarray:
            return np.array(rows[name].cast(pa.string()).to_pylist(), object)

        return cls(
            frame=rows["frame"].to_numpy().astype(np.int64),
            pts_s=rows["pts_s"].to_numpy(),
            xy_px=floats("x", "y"),
            score=floats("score")[:, 0],
            visibility=words("visibility"),
            provenance=words("provenance"),
            wh_px=floats("w", "h"),
            gap=rows["gap"].to_numpy().astype(np.int32),
            object=rows["object"].to_numpy().astype(np.int32),
            kind=words("kind"),
            kind_score=floats("kind_score")[:, 0],
        )


def split_by_video(rows: pa.Table) -> dict[str, pa.Table]:
    """Rows by video, in the order in which videos come first, each sorted by object and frame; one sort in all."""
    uris = pc.unique(rows["video"])
    rows = rows.append_column("#", pc.index_in(rows["video"], value_set=uris))
    rows = rows.sort_by([("#", "ascending"), ("object", "ascending"), ("frame", "ascending")])
    ends = np.searchsorted(rows["#"].to_numpy(), np.arange(len(uris) + 1))
    rows = rows.drop_columns("#")
    return {
        uri: rows.slice(start, stop - start)
        for uri, start, stop in zip(uris.to_pylist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    }


def trajectories(rows: pa.Table) -> dict[str, dict[int, Trajectory]]:
    """Every object of every video, by the video's URI and the object's number, which rises."""
    found: dict[str, dict[int, Trajectory]] = {}
    for uri, table in split_by_video(rows).items():
        numbers = table["object"].to_numpy()
        found[uri] = {
            int(number): Trajectory.from_rows(table.slice(int(start), int(count)))
            for number, start, count in zip(*np.unique(numbers, return_index=True, return_counts=True), strict=True)
        }
    return found


def concat(parts: Sequence[Trajectory]) -> Trajectory:
    """Join trajectories end to end."""
    if not parts:
        return Trajectory.empty()
    names = [column.name for column in fields(Trajectory)]
    return Trajectory(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

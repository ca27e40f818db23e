"""Labels and predictions side by side: one video's labelled frames with the prediction for each of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specktrack.datasets import DatasetVideo
from specktrack.errors import ConfigError
from specktrack.frames import Viewport, split_by_video
from specktrack.metrics.points import classify_points, heatmap_truth, point_errors
from specktrack.metrics.protocols import Tolerance


@dataclass(frozen=True)
class Joined:
    """One video's labels of object 0 with the prediction for each; frames [N], positions [N, 2] in source px."""

    video: str
    frame: np.ndarray
    label_px: np.ndarray
    pred_px: np.ndarray
    score: np.ndarray
    others_px: np.ndarray
    """[N, K, 2]: labels of the K other objects, NaN where absent."""
    missing: int
    """Labelled frames without a prediction."""
    beyond: int
    """Predictions without a labelled frame."""
    source_wh: tuple[int, int]
    visibility: np.ndarray
    """Of the label, object [N] of Visibility."""
    wh_px: np.ndarray
    """Size of the labelled object [N, 2], source px; NaN where the labels do not say."""
    fps: float

    def errors(self, at_wh: tuple[int, int] | None = None) -> np.ndarray:
        """Distances [N] measured at a size, or in source px; NaN unless label and prediction are present."""
        return point_errors(self.pred_px, self.label_px, scale=self._scale(at_wh))

    def outcomes(self, tolerance: Tolerance) -> np.ndarray:
        """tp, tn, fp1, fp2 or fn per frame, [N]."""
        scale, pred, label = self._scale(tolerance.at_wh), self.pred_px, self.label_px
        if tolerance.truth == "heatmap":
            assert tolerance.at_wh is not None
            label = heatmap_truth(label, scale=scale, wh=tolerance.at_wh)
            pred, scale = Viewport(self.source_wh, tolerance.at_wh).to_network(pred), (1.0, 1.0)
        return classify_points(pred, label, tolerance=_limit(tolerance), scale=scale)

    def on_others(self, tolerance: Tolerance) -> np.ndarray:
        """bool [N]: the prediction lies within the tolerance of another object's label."""
        scale = self._scale(tolerance.at_wh)
        way = (self.others_px - self.pred_px[:, None, :]) * scale
        return (np.linalg.norm(way, axis=-1) <= _limit(tolerance)).any(axis=1)

    def _scale(self, at_wh: tuple[int, int] | None) -> tuple[float, float]:
        """From source px to the size at which a distance is measured."""
        return (at_wh[0] / self.source_wh[0], at_wh[1] / self.source_wh[1]) if at_wh else (1.0, 1.0)


def _limit(tolerance: Tolerance) -> float:
    """The largest distance that is a hit."""
    return float(np.nextafter(tolerance.px, 0)) if tolerance.strict else tolerance.px


def by_video(rows: pa.Table, place: str) -> dict[str, pa.Table]:
    """Rows by video URI, ordered by frame; ConfigError if a frame has two of one object."""
    tables = split_by_video(rows)
    for uri, table in tables.items():
        frame, number = table["frame"].to_numpy(), table["object"].to_numpy()
        twice = frame[:-1][(np.diff(frame) == 0) & (np.diff(number) == 0)]
        if len(twice):
            raise ConfigError("two rows for one frame of one object", int(twice[0]), f"{place}, {uri}")
    return tables


def primary(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Of each video the rows of object 0; videos without one are left out."""
    kept = {uri: table.filter(pc.equal(table["object"], 0)) for uri, table in tables.items()}
    return {uri: table for uri, table in kept.items() if len(table)}


def join(uri: str, labels: pa.Table, rows: pa.Table, video: DatasetVideo) -> Joined:
    """The prediction for each labelled frame; ``labels`` of all objects, ``rows`` of object 0, ordered by frame."""
    others = labels.filter(pc.not_equal(labels["object"], 0))
    labels = labels.filter(pc.equal(labels["object"], 0))
    frame, pred_frame = labels["frame"].to_numpy(), rows["frame"].to_numpy()
    at, found = _places(frame, pred_frame)
    pred_px, score = np.full((len(frame), 2), np.nan), np.full(len(frame), np.nan)
    pred_px[found] = positions(rows)[at[found]]
    score[found] = rows["score"].to_numpy(zero_copy_only=False).astype(float)[at[found]]
    return Joined(
        uri, frame, positions(labels), pred_px, score, _others(frame, others),
        missing=int((~found).sum()), beyond=len(pred_frame) - int(found.sum()),
        source_wh=(video.width_px, video.height_px),
        visibility=_words(labels), wh_px=_columns(labels, "w", "h"), fps=video.fps,
    )  # fmt: skip


def join_windows(uri: str, labels: pa.Table, rows: pa.Table, video: DatasetVideo) -> Joined:
    """The label of object 0 for each row; a frame may have many rows, and those without a label are left out."""
    labels = labels.filter(pc.equal(labels["object"], 0))
    at, found = _places(rows["frame"].to_numpy(), labels["frame"].to_numpy())
    kept, truth = rows.filter(pa.array(found)), labels.take(at[found])
    return Joined(
        uri, kept["frame"].to_numpy(), positions(truth), positions(kept),
        kept["score"].to_numpy(zero_copy_only=False).astype(float), np.zeros((len(kept), 0, 2)),
        missing=0, beyond=len(rows) - len(kept), source_wh=(video.width_px, video.height_px),
        visibility=_words(truth), wh_px=_columns(truth, "w", "h"), fps=video.fps,
    )  # fmt: skip


def _places(frame: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of ``frame`` [N] is in the ordered ``among``, and whether it is there."""
    at = np.searchsorted(among, frame)
    found = np.zeros(len(frame), bool)
    inside = at < len(among)
    found[inside] = among[at[inside]] == frame[inside]
    return at, found


def _others(frame: np.ndarray, rows: pa.Table) -> np.ndarray:
    numbers = sorted(pc.unique(rows["object"]).to_pylist())
    placed = np.full((len(frame), len(numbers), 2), np.nan)
    for k, number in enumerate(numbers):
        mine = rows.filter(pc.equal(rows["object"], number))
        at, found = _places(frame, mine["frame"].to_numpy())
        placed[found, k] = positions(mine)[at[found]]
    return placed


def _words(rows: pa.Table) -> np.ndarray:
    return np.array(rows["visibility"].cast(pa.string()).to_pylist(), object)


def positions(rows: pa.Table) -> np.ndarray:
    """float64 [N, 2]; NaN where x or y is null."""
    return _columns(rows, "x", "y")


def _columns(rows: pa.Table, *names: str) -> np.ndarray:
    return np.stack([rows[name].to_numpy(zero_copy_only=False).astype(float) for name in names], axis=1)

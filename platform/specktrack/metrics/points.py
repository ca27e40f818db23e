"""How right a point tracker is: the five counts of the TrackNet papers, and position errors.

For one frame, with a tolerance on the distance between prediction and label:

    label     prediction   distance       count
    present   present      <= tolerance   TP
    present   present      >  tolerance   FP1   found something else
    absent    present                     FP2   found what is not there
    present   absent                      FN
    absent    absent                      TN

Source: TrackNetV2 (ICPAI 2020), section IV. A tolerance means little without the size it is measured at: 4 px at
512x288 are 10 px at 1280x720, so every function takes the ``scale`` from source px to the size that counts.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class PointCounts:
    """The five counts over any number of frames; ratios with an empty denominator are 0.0."""

    tp: int = 0
    tn: int = 0
    fp1: int = 0
    fp2: int = 0
    fn: int = 0

    def __add__(self, other: "PointCounts") -> "PointCounts":
        return PointCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @classmethod
    def of(cls, outcomes: np.ndarray) -> Self:
        """Count the names that ``classify_points`` gives."""
        names, numbers = np.unique(outcomes, return_counts=True)
        return cls(**{str(name): int(number) for name, number in zip(names, numbers, strict=True)})

    @property
    def total(self) -> int:
        """Frames counted."""
        return self.tp + self.tn + self.fp1 + self.fp2 + self.fn

    @property
    def precision(self) -> float:
        """TP / (TP + FP1 + FP2)."""
        return _ratio(self.tp, self.tp + self.fp1 + self.fp2)

    @property
    def recall(self) -> float:
        """TP / (TP + FN): as in the papers, a position that is too far off (FP1) does not lower recall."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all frames."""
        return _ratio(self.tp + self.tn, self.total)

    def as_dict(self) -> dict[str, Any]:
        """Counts and ratios, ready for JSON."""
        counts = {f.name: getattr(self, f.name) for f in fields(self)}
        ratios = {name: getattr(self, name) for name in ("f1", "precision", "recall", "accuracy")}
        return {**counts, "total": self.total, **ratios}


def point_errors(
    pred_xy_px: np.ndarray, label_xy_px: np.ndarray, *, scale: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Euclidean distances [N] after scaling x and y by ``scale``; NaN unless both positions are present.

    Both arrays are [N, 2]; NaN in either coordinate means absent.
    """
    difference = np.asarray(pred_xy_px, float) - np.asarray(label_xy_px, float)
    return np.hypot(difference[:, 0] * scale[0], difference[:, 1] * scale[1])


def classify_points(
    pred_xy: np.ndarray, label_xy: np.ndarray, *, tolerance: float, scale: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """The name of the count that each frame falls into, as str [N]; a distance equal to ``tolerance`` is a hit."""
    found = ~np.isnan(np.asarray(pred_xy, float)).any(axis=1)
    present = ~np.isnan(np.asarray(label_xy, float)).any(axis=1)
    hit = point_errors(pred_xy, label_xy, scale=scale) <= tolerance
    cases = [present & found & hit, present & found, found, present]
    return np.select(cases, ["tp", "fp1", "fp2", "fn"], default="tn")


def count_points(
    pred_xy: np.ndarray, label_xy: np.ndarray, *, tolerance: float, scale: tuple[float, float] = (1.0, 1.0)
) -> PointCounts:
    """Count N frames: ``pred_xy`` and ``label_xy`` are [N, 2] with NaN where absent."""
    return PointCounts.of(classify_points(pred_xy, label_xy, tolerance=tolerance, scale=scale))


def heatmap_truth(xy_px: np.ndarray, *, scale: tuple[float, float], wh: tuple[int, int]) -> np.ndarray:
    """Labels [N, 2] in source px as the programs of TrackNetV2 and V3 take them: whole px of ``wh``, float.

    The centre is truncated, a disk of radius 2.5 is drawn around it, and the middle of the disk's bounding box is the
    truth: the truncated centre itself, but shifted where the disk is cut off at the picture's rim, and NaN where none
    of it is inside. A centre truncated to (0, 0) is how these programs write that there is none.
    """
    offsets = np.array([(x, y) for y in range(-2, 3) for x in range(-2, 3) if x * x + y * y <= 2.5**2])
    centre = np.trunc(np.asarray(xy_px, float) * scale)
    disk = centre[:, None, :] + offsets
    outside = ~((disk >= 0) & (disk < np.array(wh))).all(axis=-1)
    low = np.where(outside[..., None], np.inf, disk).min(axis=1)
    high = np.where(outside[..., None], -np.inf, disk).max(axis=1)
    lost = outside.all(axis=1) | np.isnan(centre).any(axis=1) | (centre == 0).all(axis=1)
    with np.errstate(invalid="ignore"):  # inf - inf of the lost ones
        middle = np.floor((low + high + 1) / 2)
    return np.where(lost[:, None], np.nan, middle)


def average_precision(score: np.ndarray, hit: np.ndarray, *, positives: int) -> float:
    """Area below precision over recall of the detections [N] in order of falling score; 0.0 without positives.

    ``positives`` is the denominator of recall. WASB's program takes TP + FN, so that a detection in the wrong place
    (FP1) does not count as missed; at each recall it takes the highest precision. Equal scores stay in their order.
    """
    if not positives:
        return 0.0
    order = np.argsort(-np.asarray(score, float), kind="stable")
    hits = np.cumsum(np.asarray(hit, bool)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    # At a given number of hits precision is highest at the first detection that reaches it.
    firsts = np.flatnonzero(np.diff(hits, prepend=0))
    return float(precision[firsts].sum() / positives)


def error_summary(errors: np.ndarray) -> dict[str, float | None]:
    """Median, 90th and 99th percentile and mean of the errors that are not NaN; None if there are none."""
    known = errors[~np.isnan(errors)]
    if not len(known):
        return {"p50": None, "p90": None, "p99": None, "mean": None}
    p50, p90, p99 = (float(value) for value in np.percentile(known, (50, 90, 99)))
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(known.mean())}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

"""How right a box tracker is, by the rules of each benchmark.

Boxes are float [N, 4] as x, y, w, h with x, y the left top pixel, as every benchmark writes them; a box's centre is
x + (w - 1) / 2, y + (h - 1) / 2. For one sequence and each threshold t:

    success     share of frames with IoU > t             21 thresholds 0 .. 1 (GOT-10k: 101); strict, so that the area
                                                         under a perfect curve is 20/21
    precision   share of frames with centre error <= t   0, 1 .. 50 px
    normalised  the same, the error's x and y divided    0, 0.01 .. 0.5
                by the label's width and height

Sources: OTB (CVPR 2013, TPAMI 2015), LaSOT (CVPR 2019), TrackingNet (ECCV 2018), GOT-10k (TPAMI 2019), UAV123 (ECCV
2016), LaTOT. The benchmarks' toolkits differ in what a frame without a usable label is: ``BOX_PROTOCOLS`` says so for
each. In frame 0, where the tracker was told, the label stands for the prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

PRECISION_PX = np.arange(51)
NORMALISED = np.arange(51) / 100
TINY_SIDE_PX = 22
TINY_SHARE = 0.01
SIZE_EDGES_PX = (8, 16, 22, 32, 64, 128)
"""Bounds between the size buckets, as sqrt(w * h)."""

Unlabelled = Literal["miss", "hit", "dropped"]


@dataclass(frozen=True)
class BoxProtocol:
    """A benchmark's rule for counting."""

    precision_px: int = 20
    """The threshold of the precision that the benchmark prints."""
    success_steps: int = 20
    """Thresholds of the success curve are 0, 1 / steps .. 1."""
    touching_zero_is_unlabelled: bool = False
    """A label with x or y <= 0 is no label: the MATLAB toolkits ask for four positive numbers."""
    centre_unlabelled: Unlabelled = "miss"
    """How precision counts a frame without a usable label; success counts it as a miss, unless dropped."""
    normalised_unlabelled: Unlabelled = "miss"
    absent: Literal["counted", "missed", "dropped"] = "counted"
    """How a frame counts whose label says that the target is not there: like any other, always missed, or not
    counted."""
    holds_last_box: bool = True
    """A prediction that is no box stands for the one before it; otherwise it is a miss."""
    pooled: bool = False
    """Means are over all frames, and frame 0 does not count; otherwise over sequences."""
    clipped: bool = False
    """Boxes are cut at the picture's edge, where its size is known."""
    without_zero_curves: bool = False
    """A sequence whose whole curve is zero does not enter that curve's mean."""
    split: str = ""
    """Only the sequences of this split of the benchmark."""
    ranked_by: Literal["success_auc", "pointing"] = "success_auc"
    """The score that is told first."""
    best_point: bool = False
    """A model that is run says its best point in every frame, however low its score."""


_LASOT = BoxProtocol(
    touching_zero_is_unlabelled=True,
    centre_unlabelled="hit",
    normalised_unlabelled="hit",
    absent="missed",
    without_zero_curves=True,
)

BOX_PROTOCOLS: Mapping[str, BoxProtocol] = {
    # The authors' toolkit is LaSOT's with the precision read at 5 px.
    "latot-all": BoxProtocol(**{**vars(_LASOT), "precision_px": 5}),
    "latot-test": BoxProtocol(**{**vars(_LASOT), "precision_px": 5, "split": "test"}),
    # As pytracking counts OTB, NfS and DTB70, except that it takes a label that touches x = 0 for none.
    "otb": BoxProtocol(normalised_unlabelled="hit"),
    # The error of a label that is none is -1 in the MATLAB toolkit, below every threshold: a hit.
    "lasot": _LASOT,
    # Average overlap and success rates are means over all frames of all sequences with a visible target.
    "got10k": BoxProtocol(success_steps=100, absent="dropped", holds_last_box=False, pooled=True, clipped=True),
    # Frames labelled NaN are dropped.
    "uav": BoxProtocol(
        centre_unlabelled="dropped", normalised_unlabelled="dropped", absent="dropped", holds_last_box=False
    ),
    # The best point lies in the box or not: IoU says little about boxes of a few pixels.
    "pointing": BoxProtocol(
        centre_unlabelled="dropped",
        normalised_unlabelled="dropped",
        absent="dropped",
        holds_last_box=False,
        ranked_by="pointing",
        best_point=True,
    ),
}


@dataclass(frozen=True)
class SequenceScores:
    """One tracker on one sequence."""

    frames: int
    """Frames that count."""
    success: np.ndarray
    """[steps + 1]: share of frames with a larger IoU than each threshold."""
    precision: np.ndarray
    """[51]: share of frames with a centre error of at most 0, 1 .. 50 px."""
    normalised: np.ndarray
    """[51]: the same of the normalised error, at most 0, 0.01 .. 0.5."""
    overlap: float
    """Mean IoU."""
    lost: float
    """Share of the frames that show the target, by their label, in which the prediction does not touch it."""
    pointing: np.ndarray
    """int [buckets, 2]: hits and frames of the pointing game by the label's size, frame 0 not counted."""
    held: int
    """Frames whose prediction is no box."""
    missing: int
    """Frames for which the tracker wrote nothing."""


def box_iou(first_xywh: np.ndarray, second_xywh: np.ndarray) -> np.ndarray:
    """Intersection over union [N] of boxes [N, 4]; 0 where either has no area."""
    low = np.maximum(first_xywh[:, :2], second_xywh[:, :2])
    high = np.minimum(first_xywh[:, :2] + first_xywh[:, 2:], second_xywh[:, :2] + second_xywh[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    union = first_xywh[:, 2:].prod(axis=1) + second_xywh[:, 2:].prod(axis=1) - common
    usable = _is_box(first_xywh) & _is_box(second_xywh)
    return np.clip(np.divide(common, union, out=np.zeros(len(common)), where=usable & (union > 0)), 0, 1)


def centres(boxes_xywh: np.ndarray) -> np.ndarray:
    """Centres [N, 2] of boxes [N, 4]."""
    return boxes_xywh[:, :2] + (boxes_xywh[:, 2:] - 1) / 2


def score_sequence(
    predicted_xywh: np.ndarray,
    label_xywh: np.ndarray,
    protocol: BoxProtocol,
    *,
    absent: np.ndarray | None = None,
    wh_px: tuple[int, int] | None = None,
) -> SequenceScores:
    """Count one sequence: ``predicted_xywh`` [M, 4], ``label_xywh`` [N, 4] and ``absent`` bool [N].

    Predictions beyond the labels are cut; labels beyond the predictions are misses.
    """
    absent = np.zeros(len(label_xywh), bool) if absent is None else absent
    label = label_xywh
    predicted, held = _complete(predicted_xywh, label, hold=protocol.holds_last_box)
    if protocol.clipped and wh_px is not None:
        predicted, label = _clipped(predicted, wh_px), _clipped(label, wh_px)
    labelled = _is_box(label)
    if protocol.touching_zero_is_unlabelled:
        labelled &= (np.nan_to_num(label) > 0).all(axis=1)
    counted = np.ones(len(label), bool)
    counted[0] = not protocol.pooled
    if protocol.absent == "dropped":
        counted &= ~absent
    gone = absent if protocol.absent == "missed" else np.zeros(len(label), bool)
    overlap = np.where(labelled & ~gone, box_iou(predicted, label), -1.0)
    offset = centres(predicted) - centres(label)
    with np.errstate(divide="ignore", invalid="ignore"):
        error, relative = np.linalg.norm(offset, axis=1), np.linalg.norm(offset / label[:, 2:], axis=1)
    in_overlap = counted & (labelled | (protocol.centre_unlabelled != "dropped"))
    shown = counted & labelled & ~absent
    success_at = np.arange(protocol.success_steps + 1) / protocol.success_steps
    return SequenceScores(
        frames=int(in_overlap.sum()),
        success=_share(overlap[in_overlap, None] > success_at),
        precision=_curve(error, PRECISION_PX, protocol.centre_unlabelled, labelled, gone, counted),
        normalised=_curve(relative, NORMALISED, protocol.normalised_unlabelled, labelled, gone, counted),
        overlap=float(np.clip(overlap[in_overlap], 0, 1).mean()) if in_overlap.any() else 0.0,
        lost=float((overlap[shown] <= 0).mean()) if shown.any() else 0.0,
        pointing=_pointing(predicted, label, absent),
        held=held,
        missing=max(0, len(label) - len(predicted_xywh)),
    )


def no_scores(label_xywh: np.ndarray, protocol: BoxProtocol, *, absent: np.ndarray | None = None) -> SequenceScores:
    """A sequence for which a tracker wrote nothing at all: nothing is hit, in no frame."""
    nothing = score_sequence(np.zeros((0, 4)), label_xywh, protocol, absent=absent)
    zeros = {name: getattr(nothing, name) * 0 for name in ("success", "precision", "normalised", "overlap")}
    return SequenceScores(**{**vars(nothing), **zeros, "lost": 1.0, "missing": len(label_xywh)})


def mean_curve(curves: np.ndarray, frames: np.ndarray, found: np.ndarray, protocol: BoxProtocol) -> np.ndarray:
    """The benchmark's mean of curves [S, T] of S sequences with ``frames`` [S] that count.

    A sequence that was not ``found`` (bool [S]) is one without results: it counts as lost.
    """
    weights = frames.astype(float) if protocol.pooled else np.ones(len(curves))
    if protocol.without_zero_curves:
        weights = weights * ((curves.sum(axis=1) > 0) | ~found)
    return weights @ curves / weights.sum() if weights.sum() else np.zeros(curves.shape[1])


def is_tiny(boxes_xywh: np.ndarray, wh_px: tuple[int, int] | None) -> bool:
    """LaTOT's rule: over all frames the mean area is below 22 x 22 px and below 1 % of the picture.

    Where the picture's size is not known only the first half can be tested.
    """
    area = np.nanmean(boxes_xywh[:, 2] * boxes_xywh[:, 3])
    return bool(area < TINY_SIDE_PX**2 and (wh_px is None or area / (wh_px[0] * wh_px[1]) < TINY_SHARE))


def changes_scale(boxes_xywh: np.ndarray, *, fps: float = 30.0) -> bool:
    """LaTOT's SV: the ratio of areas one second apart leaves [0.5, 2]."""
    step = round(fps)
    area = np.where(_is_box(boxes_xywh), boxes_xywh[:, 2] * boxes_xywh[:, 3], np.nan)
    ratio = area[step:] / area[:-step]
    return bool(((ratio < 0.5) | (ratio > 2)).any())


def moves_fast(boxes_xywh: np.ndarray) -> bool:
    """LaTOT's FM: from one frame to the next the centre moves by more than the box's size, sqrt(w * h)."""
    boxes = np.where(_is_box(boxes_xywh)[:, None], boxes_xywh, np.nan)
    motion = np.linalg.norm(np.diff(centres(boxes), axis=0), axis=1)
    return bool((motion > np.sqrt(boxes[1:, 2] * boxes[1:, 3])).any())


def size_buckets() -> tuple[str, ...]:
    """Names of the size buckets, smallest first."""
    inner = [f"{low}-{high} px" for low, high in pairwise(SIZE_EDGES_PX)]
    return (f"< {SIZE_EDGES_PX[0]} px", *inner, f">= {SIZE_EDGES_PX[-1]} px")


def _is_box(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.isfinite(boxes_xywh).all(axis=1) & (boxes_xywh[:, 2:] > 0).all(axis=1)


def _complete(predicted: np.ndarray, label: np.ndarray, *, hold: bool) -> tuple[np.ndarray, int]:
    """One prediction per label, the label itself in frame 0 (NaN if there is none), and how many were no boxes."""
    written = predicted[: len(label)].astype(float, copy=True)
    if len(written) and _is_box(label[:1])[0]:
        written[0] = label[0]
    bad = ~_is_box(written)
    if hold and bad.any():
        last_good = np.maximum.accumulate(np.where(bad, 0, np.arange(len(written))))
        written = written[last_good]
    written[~_is_box(written)] = np.nan
    return np.vstack([written, np.full((len(label) - len(written), 4), np.nan)]), int(bad.sum())


def _clipped(boxes: np.ndarray, wh_px: tuple[int, int]) -> np.ndarray:
    """As GOT-10k's toolkit: the corner is moved inside, then the size is limited."""
    corner = np.clip(boxes[:, :2], 0, wh_px)
    return np.hstack([corner, np.clip(boxes[:, 2:], 0, np.array(wh_px) - corner)])


def _curve(
    error: np.ndarray,
    at: np.ndarray,
    unlabelled: Unlabelled,
    labelled: np.ndarray,
    gone: np.ndarray,
    counted: np.ndarray,
) -> np.ndarray:
    """Share of counted frames with at most each error (NaN, where nothing was predicted, is a miss)."""
    shown = np.where(labelled, np.nan_to_num(error, nan=np.inf), -1.0 if unlabelled == "hit" else np.inf)
    shown = np.where(gone, np.inf, shown)
    if unlabelled == "dropped":
        counted = counted & labelled
    return _share(shown[counted, None] <= at)


def _share(hits_NT: np.ndarray) -> np.ndarray:
    return hits_NT.mean(axis=0) if len(hits_NT) else np.zeros(hits_NT.shape[1])


def _pointing(predicted: np.ndarray, label: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Hits and frames by size: the prediction's centre lies in the label's box, edges included, without a margin."""
    counted = _is_box(label) & ~absent
    counted[0] = False
    with np.errstate(invalid="ignore"):
        inside = (np.abs(centres(predicted) - centres(label)) <= label[:, 2:] / 2).all(axis=1)
    bucket = np.digitize(np.sqrt(label[counted, 2] * label[counted, 3]), SIZE_EDGES_PX)
    kinds = len(SIZE_EDGES_PX) + 1
    hits = np.bincount(bucket[inside[counted]], minlength=kinds)
    return np.stack([hits, np.bincount(bucket, minlength=kinds)], axis=1)

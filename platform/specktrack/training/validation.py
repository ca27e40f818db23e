"""Measuring on held-out videos while training: the same sessions and counts as annotate and evaluate."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from specktrack.frames import FrameBatch, Trajectory, concat
from specktrack.metrics.boxes import BOX_PROTOCOLS, score_sequence
from specktrack.metrics.points import PointCounts, count_points, point_errors
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.network import Network
from specktrack.schema import Box, Prompt
from specktrack.tracking.tracker import Session, Tracker, tracker_of
from specktrack.training.frame_cache import CachedVideo

TOLERANCE_PX = 4.0
"""At 512x288, the field's reference size."""
AT_ONCE = 64
"""Frames that a session is given at a time."""


def validate(network: HeatmapNetwork, videos: list[CachedVideo], device: torch.device) -> dict[str, float]:
    """F1, precision, recall and accuracy at 4 px in 512x288, and the median error, over all frames of ``videos``."""
    tracker = _tracker(network, device)
    counts, errors = PointCounts(0, 0, 0, 0, 0), []
    for video in videos:
        predicted = followed(tracker.open(), frames_of(video))[video.label.frame]
        scale = (512 / video.viewport.source_wh_px[0], 288 / video.viewport.source_wh_px[1])
        counts += count_points(predicted.xy_px, video.label.xy_px, tolerance=TOLERANCE_PX, scale=scale)
        errors.append(point_errors(predicted.xy_px * scale, video.label.xy_px * scale))
    known = np.concatenate(errors)
    known = known[~np.isnan(known)]
    return {
        "f1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
        "accuracy": counts.accuracy,
        "median_error_px": float(np.median(known)) if len(known) else float("nan"),
    }


def validate_boxes(
    network: Network, sequences: Iterable[tuple[np.ndarray, Iterable[FrameBatch]]], device: torch.device
) -> dict[str, float]:
    """Mean area under the success curves, and the share of frames whose point lies in the label's box.

    A sequence is its boxes, float [N, 4] as cx, cy, w, h in source px with NaN if there is none, and its frames;
    it is followed from its first box.
    """
    tracker = _tracker(network, device)
    success, pointing = [], np.zeros(2, int)
    for boxes, frames in sequences:
        labelled = np.flatnonzero(np.isfinite(boxes).all(axis=1))
        cx, cy, w, h = boxes[labelled[0]].tolist()
        prompt = Prompt(frame=int(labelled[0]), box=Box(cx_px=cx, cy_px=cy, w_px=w, h_px=h))
        found, label = followed(tracker.open(prompt), frames)[labelled], boxes[labelled]
        scores = score_sequence(
            _xywh(found.xy_px, found.wh_px), _xywh(label[:, :2], label[:, 2:]), BOX_PROTOCOLS["uav"]
        )
        success.append(float(scores.success.mean()))
        pointing += scores.pointing.sum(axis=0)
    return {"success_auc": float(np.mean(success)), "pointing": float(pointing[0] / max(1, pointing[1]))}


def _tracker(network: Network, device: torch.device) -> Tracker:
    return tracker_of(Model(network, ModelCard(name="in training", network=network.config)), device=str(device))


def _xywh(xy_px: np.ndarray, wh_px: np.ndarray) -> np.ndarray:
    return np.hstack([xy_px - (wh_px - 1) / 2, wh_px]).astype(float)


def followed(session: Session, frames: Iterable[FrameBatch]) -> Trajectory:
    """All rows of a video."""
    return concat([*(session.push(batch) for batch in frames), session.finish()])


def frames_of(video: CachedVideo) -> Iterator[FrameBatch]:
    """The whole video in batches of 64 frames; presentation times do not matter here."""
    still = None if video.background is None else video.background.cpu().numpy()
    for start in range(0, len(video.pixels), AT_ONCE):
        frame = np.arange(start, min(start + AT_ONCE, len(video.pixels)))
        pixels = video.pixels[start : start + AT_ONCE].numpy()
        yield FrameBatch(pixels, frame, frame / 30, video.viewport, still)

"""Measuring on held-out videos while training: the same sessions and counts as annotate and evaluate."""

import numpy as np
import torch

from specktrack.frames import FrameBatch, concat
from specktrack.metrics.points import PointCounts, count_points, point_errors
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.tracking.tracker import tracker_of
from specktrack.training.frame_cache import CachedVideo

TOLERANCE_PX = 4.0
"""At 512x288, the field's reference size."""


def validate(network: HeatmapNetwork, videos: list[CachedVideo], device: torch.device) -> dict[str, float]:
    """F1, precision, recall and accuracy at 4 px in 512x288, and the median error, over all frames of ``videos``."""
    model = Model(network, ModelCard(name="in training", network=network.config))
    tracker = tracker_of(model, device=str(device))
    counts, errors = PointCounts(0, 0, 0, 0, 0), []
    for video in videos:
        session = tracker.open()
        rows = concat([*(session.push(batch) for batch in frames_of(video)), session.finish()])
        predicted = rows[video.label.frame]
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


def frames_of(video: CachedVideo) -> list[FrameBatch]:
    """The whole video in batches of 64 frames; presentation times do not matter here."""
    frame = np.arange(len(video.pixels))
    still = None if video.background is None else video.background.cpu().numpy()
    whole = FrameBatch(video.pixels.numpy(), frame, frame / 30, video.viewport, still)
    return [whole[i : i + 64] for i in range(0, len(frame), 64)]

"""Rows against labels under a protocol: the five counts at each tolerance, position errors, and one row per frame.

A labelled frame without a prediction counts as absent and is reported in ``missing``; predictions for frames without a
label are reported in ``beyond_labels`` and count for nothing. Only object 0, the primary one, is judged; labels of
other objects are known distractors.
"""

import io
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specktrack import telemetry
from specktrack.config import Config
from specktrack.datasets import Dataset, DatasetVideo, load_dataset
from specktrack.datasets.row_files import check_frames, read_windows
from specktrack.datasets.rows import pair_videos, read_rows
from specktrack.errors import ConfigError, MediaError
from specktrack.evaluate.annotating import rows_of_model
from specktrack.evaluate.comparing import Comparison, compare
from specktrack.evaluate.conditions import by_condition
from specktrack.evaluate.config import EvaluateConfig
from specktrack.evaluate.joined import Joined, by_video, join, primary
from specktrack.evaluate.windows import (
    WindowCounts,
    count_windows,
    one_row_per_frame,
    windows_by_video,
    windows_of_model,
)
from specktrack.metrics.calibration import Reliability, reliability
from specktrack.metrics.points import PointCounts, average_precision, error_summary
from specktrack.metrics.protocols import PAPER_WH, PROTOCOLS, Protocol, Tolerance
from specktrack.schema import ROWS, Visibility
from specktrack.storage import Store, open_store

_FRAMES = pa.schema(
    {
        "video": pa.string(),
        "frame": pa.int64(),
        "label_x": pa.float32(),
        "label_y": pa.float32(),
        "x": pa.float32(),
        "y": pa.float32(),
        "score": pa.float32(),
        "error_px": pa.float32(),
        "outcome": pa.string(),
        "on_other": pa.bool_(),
    }
)
"""Columns of ``frames.parquet``: ``outcome`` is tp, tn, fp1, fp2 or fn at the protocol's first tolerance, ``on_other``
says that the prediction lies on another labelled object."""


class VideoEvaluation(Config):
    """One video's part of an evaluation."""

    video: str
    width_px: int
    height_px: int
    frames: int
    missing: int
    at: dict[str, dict[str, Any]]
    error_px: dict[str, float | None]


class Distractors(Config):
    """How far other labelled objects explain mistakes, at the first tolerance."""

    frames: int
    """Labelled frames in which another object is present."""
    fp1: int
    """Found another object instead of the primary one."""
    fp2: int
    """Found another object where the primary one is absent."""


class EvaluationReport(Config):
    """Counts and ratios of the first tolerance at the top, and those of every tolerance below ``at``."""

    protocol: str
    data: str
    model: str | None
    predictions: str | None
    frames: int
    missing: int
    """Labelled frames without a prediction, counted as absent."""
    beyond_labels: int
    """Predictions for frames or videos without a label; they count for nothing."""
    headline: str
    """Name of the first tolerance."""
    counts: dict[str, int]
    f1: float
    precision: float
    recall: float
    accuracy: float
    at: dict[str, dict[str, Any]]
    average_precision: float | None
    """At the first tolerance as WASB computes it (recall over TP + FN); None where no prediction has a score."""
    distractors: Distractors | None
    """None where no other object is labelled."""
    per_window: WindowCounts | None = None
    """The same, every output of every window counted apart, if that was asked for."""
    reliability: Reliability | None = None
    """Whether scores are probabilities, at the first tolerance; None where a prediction has no score."""
    error_px: dict[str, float | None]
    """Position errors in source px where label and prediction are present."""
    error_512x288_px: dict[str, float | None]
    """The same, measured at the size of the papers."""
    conditions: dict[str, dict[str, Any]]
    """Counts and ratios at the first tolerance under conditions that make tracking hard."""
    per_video: tuple[VideoEvaluation, ...]
    unread: dict[str, str]
    """Videos that could not be annotated, with the reason; all their frames are missing."""
    comparison: Comparison | None = None
    """With the evaluation that ``against`` names."""
    config: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """5 if a video could not be annotated."""
        return MediaError.exit_code if self.unread else 0


def evaluate(config: EvaluateConfig) -> EvaluationReport:
    """Join rows with labels by video and frame and count them; with ``output`` write evaluation.json, frames.parquet.

    Raises ConfigError if nothing can be compared, and whatever reading labels, rows or videos raises.
    """
    protocol = PROTOCOLS[config.protocol]
    dataset = load_dataset(config.data, stream=config.stream)
    labels = _labels(dataset, protocol, config)
    videos = {video.ref.uri: video for video in dataset.card.videos}
    store = None if config.output is None else _writable(config.output)
    windows = _windows(config, [videos[uri] for uri in labels])
    predictions, unread = _predictions(config, windows, [videos[uri] for uri in labels])
    pairs = pair_videos(list(labels), list(predictions))
    if not pairs and not unread:
        raise ConfigError(
            "no prediction belongs to a labelled video", next(iter(predictions), None), config.data,
            "videos are matched by URI, then by a unique file name",
        )  # fmt: skip
    if renamed := {uri: other for uri, other in pairs.items() if uri != other}:
        labelled, rows_of = next(iter(renamed.items()))
        telemetry.get_logger().info("videos matched by name", videos=len(renamed), labelled=labelled, rows_of=rows_of)
    for uri, other in pairs.items():
        if not videos[uri].labels_only:
            check_frames(predictions[other], videos[uri].frames, f"compared with {uri}")
    joined = [
        join(uri, rows, predictions.get(pairs.get(uri, ""), ROWS.empty_table()), videos[uri])
        for uri, rows in labels.items()
    ]
    strays = sum(len(rows) for uri, rows in predictions.items() if uri not in pairs.values())
    per_window = None
    if config.per_window:
        mine = {uri: windows[other] for uri, other in pairs.items() if other in windows}
        per_window = count_windows(protocol, labels, mine, videos)
    report = _report(config, protocol, joined, strays, unread, per_window)
    frames = _frames(joined, protocol.tolerances[0])
    if config.against is not None:
        report = report.model_copy(update={"comparison": compare(frames, config.against, config.protocol)})
    if store is not None:
        sink = io.BytesIO()
        pq.write_table(frames, sink, compression="zstd")
        store.put("frames.parquet", sink.getvalue())
        store.put("evaluation.json", report.model_dump_json(indent=2).encode())
    return report


def _writable(output: str) -> Store:
    """The store for the report; StorageError now, and not after the work, if it cannot be written."""
    store, trial = open_store(output), f".{uuid.uuid4().hex}"
    store.put(trial, b"")
    store.delete(trial)
    return store


def _labels(dataset: Dataset, protocol: Protocol, config: EvaluateConfig) -> dict[str, pa.Table]:
    """Labels of all objects of the videos that count, as the protocol sees them."""
    tables = by_video(dataset.rows, f"labels {config.data}")
    frames = {uri: len(rows) for uri, rows in primary(tables).items()}
    counted = protocol.counted(frames, layout=dataset.card.format, split=dataset.card.split)
    if not counted:
        raise ConfigError("no labelled frame belongs to the protocol", config.protocol, config.data)
    if len(counted) < len(frames):
        log = telemetry.get_logger()
        log.info("the protocol counts the test part", protocol=config.protocol, videos=len(counted), of=len(frames))
    return {uri: _visible(rows, protocol) for uri, rows in tables.items() if uri in counted}


def _windows(config: EvaluateConfig, videos: list[DatasetVideo]) -> dict[str, pa.Table]:
    """Rows of every window by video URI; none if nobody asked for them."""
    if not config.per_window:
        return {}
    if config.predictions is not None:
        return windows_by_video(read_windows(config.predictions), f"predictions {config.predictions}")
    assert config.model is not None
    return windows_of_model(config.model, videos, input_wh=config.input_wh)


def _predictions(
    config: EvaluateConfig, windows: Mapping[str, pa.Table], videos: list[DatasetVideo]
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Rows of object 0 by video URI, and the videos that could not be read with the reason."""
    if config.predictions is not None and config.per_window:
        return {uri: one_row_per_frame(rows) for uri, rows in windows.items()}, {}
    if config.predictions is not None:
        return primary(by_video(read_rows(config.predictions), f"predictions {config.predictions}")), {}
    rows, unread = rows_of_model(config, videos)
    return primary(rows), unread


def _visible(rows: pa.Table, protocol: Protocol) -> pa.Table:
    """Where the protocol says so, take the positions from occluded labels."""
    if not protocol.occluded_is_absent:
        return rows
    occluded = pc.equal(rows["visibility"].cast(pa.string()), Visibility.OCCLUDED.value)
    for name in ("x", "y"):
        hidden = pc.if_else(occluded, pa.scalar(None, pa.float32()), rows[name])
        rows = rows.set_column(rows.column_names.index(name), ROWS.field(name), hidden)
    return rows


def _report(
    config: EvaluateConfig,
    protocol: Protocol,
    joined: list[Joined],
    strays: int,
    unread: Mapping[str, str],
    per_window: WindowCounts | None,
) -> EvaluationReport:
    names = [tolerance.name for tolerance in protocol.tolerances]
    counts = {
        video.video: [PointCounts.of(video.outcomes(tolerance)) for tolerance in protocol.tolerances]
        for video in joined
    }
    totals = [sum(column, PointCounts()) for column in zip(*counts.values(), strict=True)]
    per_video = tuple(
        VideoEvaluation(
            video=video.video,
            width_px=video.source_wh[0],
            height_px=video.source_wh[1],
            frames=len(video.frame),
            missing=video.missing,
            at={name: count.as_dict() for name, count in zip(names, counts[video.video], strict=True)},
            error_px=error_summary(video.errors()),
        )
        for video in joined
    )
    first, detections = totals[0].as_dict(), _detections(joined, protocol.tolerances[0])
    return EvaluationReport(
        protocol=config.protocol,
        data=config.data,
        model=config.model,
        predictions=config.predictions,
        frames=sum(len(video.frame) for video in joined),
        missing=sum(video.missing for video in joined),
        beyond_labels=strays + sum(video.beyond for video in joined),
        headline=names[0],
        counts={key: first[key] for key in ("tp", "tn", "fp1", "fp2", "fn", "total")},
        **{key: first[key] for key in ("f1", "precision", "recall", "accuracy")},
        at={name: total.as_dict() for name, total in zip(names, totals, strict=True)},
        average_precision=average_precision(*detections, positives=totals[0].tp + totals[0].fn) if detections else None,
        reliability=reliability(*detections) if detections else None,
        per_window=per_window,
        distractors=_distractors(joined, protocol.tolerances[0]),
        error_px=error_summary(np.concatenate([video.errors() for video in joined])),
        error_512x288_px=error_summary(np.concatenate([video.errors(PAPER_WH) for video in joined])),
        conditions={name: c.as_dict() for name, c in by_condition(joined, protocol.tolerances[0]).items()},
        per_video=per_video,
        unread=dict(unread),
        config=config.model_dump(mode="json"),
    )


def _detections(joined: list[Joined], tolerance: Tolerance) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores of all positions that were predicted, and whether each is right; None if one has no score."""
    score = np.concatenate([video.score for video in joined])
    outcome = np.concatenate([video.outcomes(tolerance) for video in joined])
    detected = np.isin(outcome, ("tp", "fp1", "fp2"))
    if not detected.any() or np.isnan(score[detected]).any():
        return None
    return score[detected], outcome[detected] == "tp"


def _distractors(joined: list[Joined], tolerance: Tolerance) -> Distractors | None:
    if not any(video.others_px.shape[1] for video in joined):
        return None
    counts = {"frames": 0, "fp1": 0, "fp2": 0}
    for video in joined:
        counts["frames"] += int((~np.isnan(video.others_px).any(axis=-1)).any(axis=1).sum())
        outcome, on_other = video.outcomes(tolerance), video.on_others(tolerance)
        for name in ("fp1", "fp2"):
            counts[name] += int((on_other & (outcome == name)).sum())
    return Distractors(**counts)


def _frames(joined: list[Joined], tolerance: Tolerance) -> pa.Table:
    """One row for each labelled frame."""
    tables = [_FRAMES.empty_table()]
    for video in joined:
        numbers = [*video.label_px.T, *video.pred_px.T, video.score, video.errors()]
        columns = [
            pa.array([video.video] * len(video.frame), pa.string()),
            pa.array(video.frame),
            *(pa.array(column.astype(np.float32), mask=np.isnan(column)) for column in numbers),
            pa.array(video.outcomes(tolerance).tolist(), pa.string()),
            pa.array(video.on_others(tolerance)),
        ]
        tables.append(pa.table(columns, schema=_FRAMES))
    return pa.concat_tables(tables)

"""Rows against labels under a protocol: the five counts at each tolerance, position errors, and one row per frame.

A labelled frame without a prediction counts as absent and is reported in ``missing``; predictions for frames without a
label are reported in ``beyond_labels`` and count for nothing.
"""

import io
import tempfile
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specktrack import telemetry
from specktrack.config import Config
from specktrack.datasets import DatasetVideo, load_dataset
from specktrack.errors import ConfigError, MediaError
from specktrack.evaluate.config import EvaluateConfig
from specktrack.ledger import read_annotations
from specktrack.metrics import PointCounts, classify_points, count_points, error_summary, point_errors
from specktrack.protocols import PAPER_WH, PROTOCOLS, Protocol, Tolerance
from specktrack.rows import check_frames, pair_videos, read_rows
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
    }
)
"""Columns of ``frames.parquet``; ``outcome`` is tp, tn, fp1, fp2 or fn at the protocol's first tolerance."""


class VideoEvaluation(Config):
    """One video's part of an evaluation."""

    video: str
    frames: int
    missing: int
    at: dict[str, dict[str, Any]]
    error_px: dict[str, float | None]


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
    error_px: dict[str, float | None]
    """Position errors in source px where label and prediction are present."""
    error_512x288_px: dict[str, float | None]
    """The same, measured at the size of the papers."""
    per_video: tuple[VideoEvaluation, ...]
    unread: dict[str, str]
    """Videos that could not be annotated, with the reason; all their frames are missing."""
    config: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """5 if a video could not be annotated."""
        return MediaError.exit_code if self.unread else 0


@dataclass(frozen=True)
class _Joined:
    """One video's labels with the prediction for each of them; frames [N], positions [N, 2] in source px."""

    video: str
    frame: np.ndarray
    label_px: np.ndarray
    pred_px: np.ndarray
    score: np.ndarray
    missing: int
    beyond: int
    source_wh: tuple[int, int]

    def scale(self, at_wh: tuple[int, int] | None) -> tuple[float, float]:
        """From source px to the size at which a distance is measured."""
        return (at_wh[0] / self.source_wh[0], at_wh[1] / self.source_wh[1]) if at_wh else (1.0, 1.0)


def evaluate(config: EvaluateConfig) -> EvaluationReport:
    """Join rows with labels by video and frame and count them; with ``output`` write evaluation.json, frames.parquet.

    Raises ConfigError if nothing can be compared, and whatever reading labels, rows or videos raises.
    """
    protocol = PROTOCOLS[config.protocol]
    dataset = load_dataset(config.data)
    labels = _by_video(dataset.rows, f"labels {config.data}")
    videos = {video.ref.uri: video for video in dataset.card.videos}
    chosen = protocol.select({uri: len(rows) for uri, rows in labels.items()})
    labels = {uri: _visible(rows, protocol) for uri, rows in labels.items() if uri in chosen}
    if not labels:
        raise ConfigError("no labelled frame belongs to the protocol", config.protocol, config.data)
    store = None if config.output is None else _writable(config.output)
    predictions, unread = _predictions(config, [videos[uri] for uri in labels])
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
        _join(uri, rows, predictions.get(pairs.get(uri, ""), ROWS.empty_table()), videos[uri])
        for uri, rows in labels.items()
    ]
    strays = sum(len(rows) for uri, rows in predictions.items() if uri not in pairs.values())
    report = _report(config, protocol, joined, strays, unread)
    if store is not None:
        store.put("frames.parquet", _frames_parquet(joined, protocol.tolerances[0]))
        store.put("evaluation.json", report.model_dump_json(indent=2).encode())
    return report


def _writable(output: str) -> Store:
    """The store for the report; StorageError now, and not after the work, if it cannot be written."""
    store, trial = open_store(output), f".{uuid.uuid4().hex}"
    store.put(trial, b"")
    store.delete(trial)
    return store


def _by_video(rows: pa.Table, place: str) -> dict[str, pa.Table]:
    """Rows of object 0 by video URI, ordered by frame; ConfigError if a frame has two."""
    rows = rows.filter(pc.equal(rows["object"], 0)).sort_by([("video", "ascending"), ("frame", "ascending")])
    tables = {}
    for uri in pc.unique(rows["video"]).to_pylist():
        table = rows.filter(pc.equal(rows["video"], uri))
        frame = table["frame"].to_numpy()
        if len(np.unique(frame)) < len(frame):
            twice = int(frame[:-1][np.diff(frame) == 0][0])
            raise ConfigError("two rows for one frame of one object", twice, f"{place}, {uri}")
        tables[uri] = table
    return tables


def _visible(rows: pa.Table, protocol: Protocol) -> pa.Table:
    """Where the protocol says so, take the positions from occluded labels."""
    if not protocol.occluded_is_absent:
        return rows
    occluded = pc.equal(rows["visibility"].cast(pa.string()), Visibility.OCCLUDED.value)
    for name in ("x", "y"):
        hidden = pc.if_else(occluded, pa.scalar(None, pa.float32()), rows[name])
        rows = rows.set_column(rows.column_names.index(name), ROWS.field(name), hidden)
    return rows


def _predictions(config: EvaluateConfig, videos: list[DatasetVideo]) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Rows by video URI, and the videos that could not be read with the reason."""
    if config.predictions is not None:
        return _by_video(read_rows(config.predictions), f"predictions {config.predictions}"), {}
    assert config.model is not None
    if config.address is not None:
        return _annotate_on_ray(config, [video.ref.uri for video in videos])
    return _annotate_in_threads(config.model, videos)


def _annotate_in_threads(name: str, videos: list[DatasetVideo]) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """One video per core at a time: torch leaves the interpreter to the others while it computes."""
    import torch  # which comparing rows does not need

    from specktrack.annotate import annotate_here
    from specktrack.annotate.progress import Meter
    from specktrack.models.checkpoint import load_model

    model, rows, unread, threads = load_model(name), {}, {}, torch.get_num_threads()
    workers = min(threads, len(videos))
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        work = {pool.submit(annotate_here, video.ref.uri, model=model): video for video in videos}
        with Meter(len(videos), sum(video.frames for video in videos)) as meter:
            for done in as_completed(work):
                video = work[done]
                try:
                    rows[video.ref.uri] = done.result()
                except MediaError as error:
                    unread[video.ref.uri] = str(error)
                meter.add(video.frames)
    finally:
        pool.shutdown(
            wait=len(rows) + len(unread) == len(videos), cancel_futures=True
        )  # not on the way out of an error
        torch.set_num_threads(threads)
    return rows, unread


def _annotate_on_ray(config: EvaluateConfig, videos: list[str]) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Annotate on a cluster; the rows stay below the output, so that a second evaluation finds them done."""
    from specktrack.annotate import AnnotateConfig, annotate  # loads torch and ray

    with ExitStack() as stack:
        root = config.output or stack.enter_context(tempfile.TemporaryDirectory())
        place = f"{root.rstrip('/')}/annotations"
        annotate(AnnotateConfig(sources=tuple(videos), output=place, model=config.model, address=config.address))
        rows = _by_video(read_annotations(place), place)
    return rows, {uri: "quarantined" for uri in videos if uri not in rows}


def _join(uri: str, labels: pa.Table, rows: pa.Table, video: DatasetVideo) -> _Joined:
    """The prediction for each labelled frame; both tables are ordered by frame."""
    frame, pred_frame = labels["frame"].to_numpy(), rows["frame"].to_numpy()
    at = np.searchsorted(pred_frame, frame)
    found = np.zeros(len(frame), bool)
    inside = at < len(pred_frame)
    found[inside] = pred_frame[at[inside]] == frame[inside]
    pred_px, score = np.full((len(frame), 2), np.nan), np.full(len(frame), np.nan)
    pred_px[found] = _positions(rows)[at[found]]
    score[found] = rows["score"].to_numpy(zero_copy_only=False).astype(float)[at[found]]
    missing, beyond = int((~found).sum()), len(pred_frame) - int(found.sum())
    source_wh = (video.width_px, video.height_px)
    return _Joined(uri, frame, _positions(labels), pred_px, score, missing, beyond, source_wh)


def _positions(rows: pa.Table) -> np.ndarray:
    """float64 [N, 2]; NaN where x or y is null."""
    return np.stack([rows[name].to_numpy(zero_copy_only=False).astype(float) for name in ("x", "y")], axis=1)


def _report(
    config: EvaluateConfig, protocol: Protocol, joined: list[_Joined], strays: int, unread: Mapping[str, str]
) -> EvaluationReport:
    names = [tolerance.name for tolerance in protocol.tolerances]
    counts = {video.video: [_count(video, tolerance) for tolerance in protocol.tolerances] for video in joined}
    totals = [sum(column, PointCounts()) for column in zip(*counts.values(), strict=True)]
    errors = {at_wh: _errors(joined, at_wh) for at_wh in (None, PAPER_WH)}
    per_video = tuple(
        VideoEvaluation(
            video=video.video,
            frames=len(video.frame),
            missing=video.missing,
            at={name: count.as_dict() for name, count in zip(names, counts[video.video], strict=True)},
            error_px=error_summary(point_errors(video.pred_px, video.label_px)),
        )
        for video in joined
    )
    first = totals[0].as_dict()
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
        error_px=error_summary(errors[None]),
        error_512x288_px=error_summary(errors[PAPER_WH]),
        per_video=per_video,
        unread=dict(unread),
        config=config.model_dump(mode="json"),
    )


def _limit(tolerance: Tolerance) -> float:
    """The largest distance that is a hit."""
    return float(np.nextafter(tolerance.px, 0)) if tolerance.strict else tolerance.px


def _count(video: _Joined, tolerance: Tolerance) -> PointCounts:
    scale = video.scale(tolerance.at_wh)
    return count_points(video.pred_px, video.label_px, tolerance=_limit(tolerance), scale=scale)


def _errors(joined: list[_Joined], at_wh: tuple[int, int] | None) -> np.ndarray:
    return np.concatenate([point_errors(v.pred_px, v.label_px, scale=v.scale(at_wh)) for v in joined])


def _frames_parquet(joined: list[_Joined], tolerance: Tolerance) -> bytes:
    tables = [_FRAMES.empty_table()]
    for video in joined:
        scale = video.scale(tolerance.at_wh)
        numbers = [*video.label_px.T, *video.pred_px.T, video.score, point_errors(video.pred_px, video.label_px)]
        outcome = classify_points(video.pred_px, video.label_px, tolerance=_limit(tolerance), scale=scale)
        columns = [
            pa.array([video.video] * len(video.frame), pa.string()),
            pa.array(video.frame),
            *(pa.array(column.astype(np.float32), mask=np.isnan(column)) for column in numbers),
            pa.array(outcome.tolist(), pa.string()),
        ]
        tables.append(pa.table(columns, schema=_FRAMES))
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return sink.getvalue()

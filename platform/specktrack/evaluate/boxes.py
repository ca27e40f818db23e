"""Box trackers against a benchmark: every tracker on every sequence, the benchmark's means, and means by attribute."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specktrack import telemetry
from specktrack.datasets.benchmarks import Benchmark, BoxSequence, read_benchmark
from specktrack.evaluate.box_report import BoxReport, Scored, box_report
from specktrack.evaluate.config import EvaluateConfig
from specktrack.evaluate.trackers import Results, as_text, find_results, run_sequence
from specktrack.metrics.boxes import BOX_PROTOCOLS, BoxProtocol, no_scores, score_sequence
from specktrack.report.boxes import box_plots, boxes_page
from specktrack.storage import Store, open_store

log = telemetry.get_logger()


def evaluate_boxes(config: EvaluateConfig) -> BoxReport:
    """Score all trackers; with ``output`` write evaluation.json, sequences.parquet, plots and report.html.

    Raises ConfigError if nothing can be compared, LabelError for labels or results that are no boxes.
    """
    protocol = BOX_PROTOCOLS[config.protocol]
    benchmark = read_benchmark(config.data)
    if protocol.split:
        benchmark = benchmark.split(protocol.split, config.data)
    if config.address is None:
        scores = _score_here(config, benchmark, protocol)
    else:
        scores = _score_on_ray(config, benchmark, protocol)
    report = box_report(config, protocol, benchmark, scores)
    if config.output is not None:
        _write(open_store(config.output), report, scores)
    return report


def _score_here(config: EvaluateConfig, benchmark: Benchmark, protocol: BoxProtocol) -> list[Scored]:
    if config.model is not None:
        from specktrack.tracking.tracker import load_parts, make_tracker  # loads torch

        parts = load_parts(config.following)
        name, boxes = parts.model.card.name, {}
        tracker = make_tracker(config.following, parts=parts, prompted=True, best_point=protocol.best_point)
        for sequence in benchmark.sequences:
            boxes[sequence.name] = run_sequence(tracker, sequence)
            _keep(config, name, sequence.name, boxes[sequence.name])
            log.info("sequence followed", sequence=sequence.name, frames=len(sequence.label_xywh))
        results = [Results(name, {}, boxes)]
    else:
        results = find_results(str(config.predictions), benchmark.sequences)
    return [score for sequence in benchmark.sequences for score in _score(sequence, results, protocol)]


def _score_on_ray(config: EvaluateConfig, benchmark: Benchmark, protocol: BoxProtocol) -> list[Scored]:
    """One sequence per task of Ray Data; the text files are read, and a model is run, where the task is."""
    from specktrack.evaluate.box_tasks import score_on_ray  # loads ray

    assert config.address is not None
    if config.model is None:
        results = find_results(str(config.predictions), benchmark.sequences)
        return score_on_ray(config.address, benchmark.sequences, lambda item: _score(item, results, protocol))
    from specktrack.evaluate.box_tasks import follow_on_ray

    name, boxes = follow_on_ray(config.address, benchmark.sequences, protocol, config.following)
    for sequence, found in boxes.items():
        _keep(config, name, sequence, found)
    followed = [Results(name, {}, boxes)]
    return [score for sequence in benchmark.sequences for score in _score(sequence, followed, protocol)]


def _keep(config: EvaluateConfig, tracker: str, sequence: str, boxes: np.ndarray) -> None:
    """Write what a model predicted as any tracker's text file, to be compared again or by another toolkit."""
    if config.output is not None:
        open_store(config.output).put(f"results/{tracker}/{sequence}.txt", as_text(boxes))


def _score(sequence: BoxSequence, results: Sequence[Results], protocol: BoxProtocol) -> list[Scored]:
    """All trackers on one sequence."""
    scores = []
    for result in results:
        boxes = result.read(sequence.name)
        if boxes is None:
            found = no_scores(sequence.label_xywh, protocol, absent=sequence.absent)
        else:
            found = score_sequence(
                boxes, sequence.label_xywh, protocol, absent=sequence.absent, wh_px=sequence.wh_px
            )  # fmt: skip
        scores.append(Scored(result.tracker, sequence.name, found, boxes is not None))
    return scores


def _write(store: Store, report: BoxReport, scores: Iterable[Scored]) -> None:
    content = report.model_dump(mode="json")
    rows = [_row(score) for score in scores]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    store.put("sequences.parquet", sink.getvalue().to_pybytes())
    for name, drawing in box_plots(content).items():
        store.put(f"{name}.svg", drawing.encode())
    store.put("report.html", boxes_page(content, rows).encode())
    store.put("evaluation.json", report.model_dump_json(indent=2).encode())


def _row(score: Scored) -> dict[str, Any]:
    each = score.scores
    hits, pointed = map(int, each.pointing.sum(axis=0))
    return {
        "tracker": score.tracker,
        "sequence": score.sequence,
        "frames": each.frames,
        "success_auc": float(each.success.mean()),
        "precision_5px": float(each.precision[5]),
        "precision_20px": float(each.precision[20]),
        "normalised_precision": float(each.normalised[20]),
        "normalised_precision_auc": float(each.normalised.mean()),
        "average_overlap": each.overlap,
        "pointing": hits / pointed if pointed else None,
        "lost": each.lost,
        "held_frames": each.held,
        "missing_frames": each.missing,
    }

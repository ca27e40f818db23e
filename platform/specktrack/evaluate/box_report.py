"""From scores of sequences to a benchmark's table: means, means by attribute, and the checks that need no person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from specktrack import telemetry
from specktrack.config import Config
from specktrack.datasets.benchmarks import Benchmark, BoxSequence
from specktrack.errors import ConfigError, MediaError, StorageError
from specktrack.evaluate.config import EvaluateConfig
from specktrack.metrics.boxes import (
    BoxProtocol,
    SequenceScores,
    changes_scale,
    is_tiny,
    mean_curve,
    moves_fast,
    size_buckets,
)
from specktrack.storage import stat
from specktrack.video import probe

log = telemetry.get_logger()

COMPUTED = {"SV": changes_scale, "FM": moves_fast}
"""Attributes that follow from the boxes alone; they stand in where a benchmark comes without attributes."""


class BoxScores(Config):
    """The benchmark's means over sequences (GOT-10k: over frames)."""

    sequences: int
    success_auc: float
    """Area under the success curve."""
    precision: float
    """Share of frames with a centre error of at most the protocol's number of px."""
    normalised_precision_auc: float
    """Area under the normalised precision curve, 0 to 0.5."""
    normalised_precision: float
    """Its value at 0.2."""
    success_50: float
    success_75: float
    average_overlap: float
    """Mean IoU: GOT-10k's AO."""
    lost: float
    """Share of the frames that show the target in which the box does not touch the label's."""
    pointing: float | None
    """Share of frames, the first not counted, whose predicted centre lies in the label's box; None without frames."""


class PointingBucket(Config):
    """The pointing game on labels of one size."""

    size: str
    hits: int
    frames: int


class TrackerEvaluation(BoxScores):
    """One tracker on the benchmark."""

    tracker: str
    precision_5px: float
    precision_20px: float
    by_attribute: dict[str, BoxScores]
    pointing_by_size: tuple[PointingBucket, ...]
    success_curve: tuple[float, ...]
    precision_curve: tuple[float, ...]
    normalised_curve: tuple[float, ...]
    missing_sequences: tuple[str, ...]
    """Sequences without results, counted as lost from beginning to end."""
    missing_frames: int
    """Labels beyond the end of what the tracker wrote, counted as lost."""
    held_frames: int
    """Predictions that are no box (NaN, or no size)."""


class AttributeCheck(Config):
    """A labelled attribute that can be computed, compared."""

    attribute: str
    labelled: int
    computed: int
    differ: tuple[str, ...]
    """Sequences where the label and the definition disagree."""


class BoxReport(BoxScores):
    """The best tracker's scores at the top, every tracker's below ``trackers``, best first."""

    protocol: str
    data: str
    layout: str
    tracker: str
    """The best by success (pointing: by hits)."""
    ranked_by: Literal["success_auc", "pointing"]
    """The score that decides which tracker is the best."""
    pointing_by_size: tuple[PointingBucket, ...]
    """The best tracker's hits by size of the label."""
    precision_px: int
    frames: int
    """Labels of all sequences."""
    tiny: int
    """Sequences that satisfy LaTOT's rule for tiny targets."""
    attributes: dict[str, int]
    """Sequences by attribute."""
    attribute_checks: tuple[AttributeCheck, ...]
    trackers: tuple[TrackerEvaluation, ...]
    config: dict[str, Any]
    exit_code: int = 0


@dataclass(frozen=True)
class Scored:
    """One tracker on one sequence."""

    tracker: str
    sequence: str
    scores: SequenceScores
    found: bool


def box_report(
    config: EvaluateConfig, protocol: BoxProtocol, benchmark: Benchmark, scores: Sequence[Scored]
) -> BoxReport:
    """The report on the scores of all trackers on all sequences."""
    groups, checks = _attributes(benchmark)
    trackers = []
    for name in dict.fromkeys(score.tracker for score in scores):
        mine = [score for score in scores if score.tracker == name]
        trackers.append(_tracker(name, mine, groups, protocol))
        if missing := trackers[-1].missing_sequences:
            log.warning(
                "sequences without results count as lost", tracker=name, sequences=len(missing), first=missing[0]
            )
    trackers.sort(key=lambda tracker: getattr(tracker, protocol.ranked_by) or 0.0, reverse=True)
    best = trackers[0]
    return BoxReport(
        **{name: getattr(best, name) for name in BoxScores.model_fields},
        protocol=config.protocol,
        data=config.data,
        layout=benchmark.layout,
        tracker=best.tracker,
        ranked_by=protocol.ranked_by,
        pointing_by_size=best.pointing_by_size,
        precision_px=protocol.precision_px,
        frames=sum(len(sequence.label_xywh) for sequence in benchmark.sequences),
        tiny=len(groups.get("tiny", ())),
        attributes={name: len(members) for name, members in groups.items()},
        attribute_checks=checks,
        trackers=tuple(trackers),
        config=config.model_dump(mode="json"),
    )


def _attributes(benchmark: Benchmark) -> tuple[dict[str, set[str]], tuple[AttributeCheck, ...]]:
    """Names of sequences by attribute, labelled or else computed, and a check of those that are both."""
    everything = benchmark.sequences
    labelled = [sequence for sequence in everything if sequence.attributes is not None]
    groups: dict[str, set[str]] = {}
    for sequence in labelled:
        for name in sequence.attributes or ():
            groups.setdefault(name, set()).add(sequence.name)
    checks = []
    for name, rule in COMPUTED.items():
        found = {sequence.name for sequence in everything if rule(_seen(sequence))}
        if not labelled:
            groups[name] = found
        elif name in groups:
            differ = tuple(sorted({sequence.name for sequence in labelled} & (groups[name] ^ found)))
            checks.append(
                AttributeCheck(attribute=name, labelled=len(groups[name]), computed=len(found), differ=differ)
            )  # fmt: skip
    if tiny := {sequence.name for sequence in everything if _is_tiny(sequence)}:
        groups["tiny"] = tiny
    return {name: groups[name] for name in groups if groups[name]}, tuple(checks)


def _is_tiny(sequence: BoxSequence) -> bool:
    """By both halves of the rule; the picture's size is looked up only where the first half holds."""
    if not is_tiny(sequence.label_xywh, sequence.wh_px):
        return False
    return sequence.wh_px is not None or is_tiny(sequence.label_xywh, _picture_wh_px(sequence.frames_uri))


def _picture_wh_px(frames_uri: str) -> tuple[int, int] | None:
    """Of the pictures in a folder; None where they are not there, or cannot be read."""
    try:
        return probe(stat(frames_uri)).size_wh_px
    except (ConfigError, StorageError, MediaError):
        return None


def _seen(sequence: BoxSequence) -> np.ndarray:
    return np.where(sequence.labelled[:, None], sequence.label_xywh, np.nan)


def _tracker(
    name: str, mine: Sequence[Scored], groups: dict[str, set[str]], protocol: BoxProtocol
) -> TrackerEvaluation:
    overall, curves = _means(mine, protocol)
    precision = curves["precision"]
    pointing = sum((score.scores.pointing for score in mine), np.zeros((len(size_buckets()), 2), int))
    return TrackerEvaluation(
        **overall.model_dump(),
        tracker=name,
        precision_5px=float(precision[5]),
        precision_20px=float(precision[20]),
        by_attribute={
            attribute: _means([score for score in mine if score.sequence in members], protocol)[0]
            for attribute, members in groups.items()
        },
        pointing_by_size=tuple(
            PointingBucket(size=size, hits=int(hits), frames=int(frames))
            for size, (hits, frames) in zip(size_buckets(), pointing, strict=True)
        ),
        success_curve=tuple(map(float, curves["success"])),
        precision_curve=tuple(map(float, precision)),
        normalised_curve=tuple(map(float, curves["normalised"])),
        missing_sequences=tuple(score.sequence for score in mine if not score.found),
        missing_frames=sum(score.scores.missing for score in mine if score.found),
        held_frames=sum(score.scores.held for score in mine),
    )


def _means(scores: Sequence[Scored], protocol: BoxProtocol) -> tuple[BoxScores, dict[str, np.ndarray]]:
    parts = [score.scores for score in scores]
    frames, found = np.array([part.frames for part in parts]), np.array([score.found for score in scores])
    curves = {
        name: mean_curve(np.stack([getattr(part, name) for part in parts]), frames, found, protocol)
        for name in ("success", "precision", "normalised")
    }
    flat = {name: np.array([[getattr(part, name)] for part in parts]) for name in ("overlap", "lost")}
    plain = BoxProtocol(pooled=protocol.pooled)
    hits, pointed = sum((part.pointing for part in parts), np.zeros((len(size_buckets()), 2), int)).sum(axis=0)
    means = BoxScores(
        sequences=len(parts),
        success_auc=float(curves["success"].mean()),
        precision=float(curves["precision"][protocol.precision_px]),
        normalised_precision_auc=float(curves["normalised"].mean()),
        normalised_precision=float(curves["normalised"][20]),
        success_50=float(curves["success"][protocol.success_steps // 2]),
        success_75=float(curves["success"][protocol.success_steps * 3 // 4]),
        average_overlap=float(mean_curve(flat["overlap"], frames, found, plain)[0]),
        lost=float(mean_curve(flat["lost"], frames, found, plain)[0]),
        pointing=hits / pointed if pointed else None,
    )
    return means, curves

"""Sequences in parallel on Ray Data: one row per sequence, scored or followed where the task runs."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import ray

from specktrack.cluster import connected
from specktrack.datasets.benchmarks import BoxSequence
from specktrack.evaluate.trackers import run_sequence
from specktrack.metrics.boxes import BoxProtocol
from specktrack.tracking.following import Following

_Result = TypeVar("_Result")


def score_on_ray(
    address: str, sequences: Sequence[BoxSequence], score: Callable[[BoxSequence], list[_Result]]
) -> list[_Result]:
    """``score`` of every sequence, in the order of the sequences."""
    with connected(address):
        labels = ray.put(list(sequences))

        def task(row: dict[str, Any]) -> dict[str, Any]:
            return {"index": row["id"], "scores": score(ray.get(labels)[row["id"]])}

        rows = ray.data.range(len(sequences), override_num_blocks=_blocks(len(sequences))).map(task).take_all()
    return [found for row in sorted(rows, key=lambda row: row["index"]) for found in row["scores"]]


def follow_on_ray(
    address: str, sequences: Sequence[BoxSequence], protocol: BoxProtocol, following: Following
) -> tuple[str, dict[str, np.ndarray]]:
    """A model's name and its boxes by name of the sequence; one tracker per actor, one actor per core."""
    from specktrack.tracking.tracker import load_parts  # loads torch

    with connected(address):
        parts = load_parts(following)
        shared, labels = ray.put((following, parts, protocol.best_point)), ray.put(list(sequences))
        workers = max(1, min(len(sequences), int(ray.cluster_resources().get("CPU", 1))))
        rows = (
            ray.data.range(len(sequences), override_num_blocks=_blocks(len(sequences)))
            .map(_Follower, fn_constructor_args=(shared, labels), concurrency=workers, num_cpus=1)
            .take_all()
        )
    return parts.model.card.name, {row["sequence"]: np.array(row["boxes"], float).reshape(-1, 4) for row in rows}


class _Follower:
    """An actor with a tracker; it follows sequences one after the other."""

    def __init__(self, shared: Any, sequences: Any) -> None:
        import torch

        from specktrack.tracking.tracker import make_tracker

        torch.set_num_threads(1)  # one actor per core
        following, parts, best_point = ray.get(shared)
        self._tracker = make_tracker(following, parts=parts, prompted=True, best_point=best_point)
        self._sequences = ray.get(sequences)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        sequence = self._sequences[row["id"]]
        return {"sequence": sequence.name, "boxes": run_sequence(self._tracker, sequence).ravel().tolist()}


def _blocks(sequences: int) -> int:
    """Enough for every core to have some, without a task per sequence of a second."""
    return min(sequences, 200)

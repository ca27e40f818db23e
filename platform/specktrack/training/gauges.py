"""A run's figures where Prometheus finds them: with all other metrics of the node, on Ray's own port."""

from collections.abc import Mapping
from functools import lru_cache

import ray
from ray.util.metrics import Gauge


def show(kind: str, numbers: Mapping[str, float], *, step: int, run: str) -> None:
    """Set the number of the step, and one gauge for all figures, told apart by their names; if there is a Ray."""
    if not ray.is_initialized():
        return
    steps, figures = _gauges()
    steps.set(step, tags={"run": run})
    for name, number in numbers.items():
        figures.set(number, tags={"run": run, "kind": kind, "figure": name})


@lru_cache(maxsize=1)
def _gauges() -> tuple[Gauge, Gauge]:
    """Made by the first worker of a process: a gauge belongs to its Ray."""
    steps = Gauge("specktrack_training_step", "Optimiser steps of a training run so far.", tag_keys=("run",))
    what = "Figures of a training run as in metrics.jsonl; waited is the share of the time that waited for data."
    return steps, Gauge("specktrack_training_figure", what, tag_keys=("run", "kind", "figure"))

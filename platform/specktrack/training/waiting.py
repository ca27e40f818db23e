"""The share of a run's time spent waiting for data."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Batch = TypeVar("Batch")


class Waiting:
    """Counts the time until each batch comes; that of the first one is a start, and counts as none."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._waited_s = 0.0

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches."""
        source = iter(batches)
        for batch in source:
            self._since, self._waited_s = time.perf_counter(), 0.0
            yield batch
            break
        while True:
            asked = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            self._waited_s += time.perf_counter() - asked
            yield batch

    def share(self) -> float:
        """The part of the time since this was asked last."""
        now = time.perf_counter()
        share = self._waited_s / max(now - self._since, 1e-9)
        self._since, self._waited_s = now, 0.0
        return share

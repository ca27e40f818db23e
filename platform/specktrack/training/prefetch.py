"""Batches prepared by threads while the network works on earlier ones."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from specktrack.errors import StorageError

AHEAD = 3
"""Batches that are prepared while the network works."""
STALLED_S = 60.0
"""A batch takes well below a second; what takes this long waits for a disk or a network that is gone."""

START_S = 600.0
"""The first batch of a stream waits for nodes that come, and for processes that load what they need."""

Prepared = TypeVar("Prepared")


def prefetched(make: Callable[[int], Prepared], steps: range) -> Iterator[Prepared]:
    """``make(step)`` for every step, in order; an error in it comes out here.

    Raises StorageError where a batch does not come: on Ray Train the run then resumes from its last checkpoint, with
    workers of its own, instead of waiting forever.
    """
    pending = deque(_started(make, step) for step in steps[:AHEAD])
    for place, step in enumerate(steps):
        try:
            yield pending.popleft().result(STALLED_S)
        except TimeoutError:
            raise StorageError(
                "the next batch did not arrive", f"after {STALLED_S:g} s", f"step {step}",
                "check the disk under --cache and the storage of the data",
            ) from None  # fmt: skip
        if place + AHEAD < len(steps):
            pending.append(_started(make, steps[place + AHEAD]))


def prefetched_in_order(make: Callable[[int], Prepared], steps: range) -> Iterator[Prepared]:
    """The same where a batch can be asked for only after the one before it: one thread asks for all of them.

    The first may come as late as whoever makes it takes to start.
    """
    ready: queue.Queue[Future[Prepared]] = queue.Queue(AHEAD)

    def run() -> None:
        for step in steps:
            future: Future[Prepared] = Future()
            _fulfil(future, make, step)
            ready.put(future)
            if future.exception() is not None:
                return

    threading.Thread(target=run, name="batches", daemon=True).start()
    for place, step in enumerate(steps):
        patience_s = STALLED_S if place else START_S
        try:
            yield ready.get(timeout=patience_s).result()
        except queue.Empty:
            raise StorageError(
                "the next batch did not arrive", f"after {patience_s:g} s", f"step {step}",
                "make sure that the cluster has CPUs besides the workers' own, and check the storage of the data",
            ) from None  # fmt: skip


def _started(make: Callable[[int], Prepared], step: int) -> "Future[Prepared]":
    """A thread of its own that ends with the process: a pool's would be waited for, however long they hang."""
    future: Future[Prepared] = Future()

    threading.Thread(target=_fulfil, args=(future, make, step), name=f"batch-{step}", daemon=True).start()
    return future


def _fulfil(future: "Future[Prepared]", make: Callable[[int], Prepared], step: int) -> None:
    try:
        future.set_result(make(step))
    except BaseException as error:  # noqa: BLE001 - it is raised where the batch is wanted
        future.set_exception(error)

"""Work on Ray Data: rows through an autoscaling pool of actors, and a count of how often each piece was started."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from specktrack.annotating.workers import Attempts as AnyAttempts
from specktrack.annotating.workers import Counter
from specktrack.cluster import connected
from specktrack.errors import MediaError, QuarantineReason, SpecktrackError

MOST_BLOCKS = 10_000
"""Units of work that Ray Data schedules singly; more rows than that share a unit."""
MOST_ACTORS_PER_GPU = 4
"""Decoding is the CPU's work: actors, each on a core of its own, take turns on a GPU."""
MOST_ATTEMPTS = 3
"""Workers also die for reasons of their own (preemption, memory): a clip is set aside when three died over it."""

MOST_START_DEATHS = 10
"""Actors in a row that may die while they start (a model that does not fit into memory, say)."""


def work(
    rows: Sequence[Mapping[str, Any]],
    actor: type,
    argument: Any,
    *,
    workers: int | None = None,
    gpu: bool = False,
) -> Iterator[dict[str, Any]]:
    """Call ``actor(argument)`` on every row, in any order, and hand out the rows it returns as they come.

    ``workers`` limits the actors; without a limit the pool grows as far as the cluster does. An actor that dies is
    replaced, and its row is restarted. An error of ours that an actor raises ends the work and is raised here.
    """
    if not rows:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = MOST_START_DEATHS
    context.raise_original_map_exception = True
    units = min(len(rows), MOST_BLOCKS)
    most = min(units, workers or units)
    pool = ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=max(1, min(most, int(_resources("CPU")))),
        max_size=most,
        max_tasks_in_flight_per_actor=2,  # one that waits is what tells the pool to grow
    )
    dataset = ray.data.from_items([dict(row) for row in rows], override_num_blocks=units)
    share = gpu_share() if gpu else 0
    mapped = dataset.flat_map(actor, fn_constructor_args=(argument,), compute=pool, num_cpus=1, num_gpus=share)
    try:
        yield from mapped.iter_rows()
    except SpecktrackError as error:  # one that crossed a worker has the worker's traceback as its text
        cause = getattr(error, "cause", None)
        raise (cause if isinstance(cause, SpecktrackError) else error) from None


def gpu_share() -> float:
    """The part of a GPU that one annotating actor asks for; 0 where the cluster has none."""
    gpus = _resources("GPU")
    return 1 / max(1, min(MOST_ACTORS_PER_GPU, int(_resources("CPU") // gpus))) if gpus else 0.0


def _resources(kind: str) -> float:
    return float(ray.cluster_resources().get(kind, 0.0))


class Attempts:
    """How often each key was begun in this run, counted in a process of its own that outlives the workers.

    A decoder that kills its process cannot report that itself, and Ray would begin its clip forever. The count is kept
    on the driver's node, whose death ends the run anyway (``soft`` would place it anywhere else).
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._counter: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Counter).remote()

    def begin(self, key: str) -> int:
        """Count one more attempt and return its number, 0 after ``stop``; MediaError(CRASHED) beyond MOST_ATTEMPTS."""
        attempt = int(ray.get(self._counter.begin.remote(key)))
        if attempt > MOST_ATTEMPTS:
            raise MediaError(
                QuarantineReason.CRASHED,
                f"{MOST_ATTEMPTS} workers died on it",
                key,
                remedy="run again with --retry-quarantined if the cluster was at fault",
            )
        return attempt

    def stop(self) -> None:
        """Have nothing more begun, on whichever node."""
        self._counter.stop.remote()

    def repeated(self) -> int:
        """Attempts so far that were not the first of their key."""
        return int(ray.get(self._counter.repeated.remote()))


class Pool:
    """Actors on the cluster that this process is connected to; see ``workers.Workers``."""

    threads = 1  # one actor per core: threads inside would only contend

    def __init__(self, most: int | None) -> None:
        self.attempts: AnyAttempts = Attempts()
        self.gpu, self._most = gpu_share() > 0, most
        self.number = min(most or MOST_BLOCKS, max(1, int(_resources("CPU"))))

    def share(self, value: Any) -> Callable[[], Any]:
        """``value`` in Ray's object store."""
        return partial(ray.get, ray.put(value))

    def work(self, rows: Sequence[Mapping[str, Any]], actor: type, argument: Any) -> Iterator[dict[str, Any]]:
        """``work`` with at most so many actors."""
        gpu = self.gpu and getattr(actor, "wants_gpu", False)
        return work(rows, actor, argument, workers=self._most, gpu=gpu)


@contextmanager
def pool(address: str, most: int | None) -> Iterator[Pool]:
    """A pool of at most so many actors on the cluster at ``address``, see ``cluster.connected``."""
    with connected(address):
        yield Pool(most)

"""Where a run's work is done: in this process (``Here``), or by actors on a Ray cluster (``pool.Pool``)."""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

MOST_VIDEOS_HERE, MOST_FRAMES_HERE = 8, 1500
"""A cluster and its actors take as long to start as 400 frames take to follow, and two cores share what comes after."""


class Attempts(Protocol):
    """How often each piece of work was begun."""

    def begin(self, key: str) -> int:
        """Count one more attempt and return its number, 0 once the work is to stop.

        MediaError(CRASHED) where too many workers died on it.
        """
        ...

    def stop(self) -> None:
        """Have nothing more begun."""
        ...

    def repeated(self) -> int:
        """Attempts so far that were not the first of their key."""
        ...


class Workers(Protocol):
    """The processes or actors that do a run's work."""

    attempts: Attempts
    gpu: bool
    """Whether they have one."""
    number: int
    """How many can be at work at a time."""
    threads: int
    """Of torch in each of them."""

    def share(self, value: Any) -> Callable[[], Any]:
        """A function that gives every worker ``value``, which is sent once."""
        ...

    def work(self, rows: Sequence[Mapping[str, Any]], actor: type, argument: Any) -> Iterator[dict[str, Any]]:
        """Call ``actor(argument)`` on every row, in any order, and hand out the rows it returns as they come."""
        ...


class Here:
    """This process: for so little work that starting a cluster would take longer."""

    number = 1

    def __init__(self) -> None:
        import torch  # not by actors that only measure or count

        self.attempts: Attempts = _First()
        self.gpu = torch.cuda.is_available()
        self.threads = max(1, torch.get_num_threads() - 1)  # torch's wait by spinning: one core is the decoder's

    def share(self, value: Any) -> Callable[[], Any]:
        """See Workers."""
        return lambda: value

    def work(self, rows: Sequence[Mapping[str, Any]], actor: type, argument: Any) -> Iterator[dict[str, Any]]:
        """One row after the other."""
        if rows:
            instance = actor(argument)
            for row in rows:
                yield from instance(dict(row))


class _First:
    """A process that dies takes its count with it: every attempt that it knows of is the first."""

    def __init__(self) -> None:
        self._next = 1

    def begin(self, key: str) -> int:
        return self._next

    def stop(self) -> None:
        self._next = 0

    def repeated(self) -> int:
        return 0


class Counter:
    """Counts how often each key was begun; runs as an actor that all workers of a cluster share."""

    def __init__(self) -> None:
        self._begun: collections.Counter[str] = collections.Counter()
        self._stopped = False

    def begin(self, key: str) -> int:
        """See Attempts."""
        if self._stopped:
            return 0
        self._begun[key] += 1
        return self._begun[key]

    def stop(self) -> None:
        """See Attempts."""
        self._stopped = True

    def repeated(self) -> int:
        """See Attempts."""
        return self._begun.total() - len(self._begun)

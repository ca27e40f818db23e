"""How right found events are: one found event answers for one true event that is near enough in time."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EventCounts:
    """Events of one kind over any number of videos."""

    found_right: int = 0
    found: int = 0
    true: int = 0

    def __add__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(self.found_right + other.found_right, self.found + other.found, self.true + other.true)

    @property
    def precision(self) -> float:
        """Share of the found ones that are right; 0.0 where none was found."""
        return self.found_right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the true ones that were found; 0.0 if there are none."""
        return self.found_right / self.true if self.true else 0.0


def count_events(
    found: np.ndarray, true: np.ndarray, *, tolerance: float, unseen: np.ndarray | None = None
) -> EventCounts:
    """Count moments [M] that were found against true ones [N], in frames or seconds; nearest pairs first.

    Found ones at ``unseen`` moments [K], true but invisible, count for nothing.
    """
    pairs = sorted(
        (abs(float(a) - float(b)), i, j)
        for i, a in enumerate(found)
        for j, b in enumerate(true)
        if abs(float(a) - float(b)) <= tolerance
    )
    taken_found: set[int] = set()
    taken_true: set[int] = set()
    for _, i, j in pairs:
        if i not in taken_found and j not in taken_true:
            taken_found.add(i)
            taken_true.add(j)
    hidden = np.zeros(0) if unseen is None else unseen
    idle = [i for i, a in enumerate(found) if i not in taken_found and (np.abs(hidden - a) <= tolerance).any()]
    return EventCounts(len(taken_true), len(found) - len(idle), len(true))

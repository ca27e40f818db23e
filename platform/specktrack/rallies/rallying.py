"""Which turns belong to one rally, when it begins, and when the ball is dead."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from specktrack.rallies.smoothing import GAP_S
from specktrack.rallies.turns import Turn
from specktrack.schema import Event

PAUSE_S = 4.0
"""No flight takes longer: a hit later than this after the last turn opens another rally."""
ANSWERED_S = 1.5
"""Nobody picks a dead ball up and strikes it sooner."""
DEAD_S = 2.0
"""A ball that nobody has struck for so long, and that was not seen to bounce, was dead when it was last seen."""


@dataclass
class Rally:
    """Play between a serve, or the first hit that is seen, and the dead ball."""

    turns: list[Turn] = field(default_factory=list)
    stop_s: float = 0.0
    """When the ball is dead."""

    @property
    def start_s(self) -> float:
        """Time of the first hit."""
        return self.turns[0].time_s

    @property
    def score(self) -> float:
        """How likely it is that this is one: the mean over its turns."""
        return float(np.mean([turn.score for turn in self.turns]))


def ruled(turns: Sequence[Turn]) -> list[Turn]:
    """Turns of a sport in which a bounce ends the rally: one that a hit follows at once was a hit itself."""
    kept: list[Turn] = []
    for turn in reversed(turns):
        answered = kept and kept[-1].event is Event.HIT and kept[-1].time_s - turn.time_s <= ANSWERED_S
        kept.append(replace(turn, event=Event.HIT) if turn.event is Event.BOUNCE and answered else turn)
    return kept[::-1]


def find_rallies(turns: Sequence[Turn], seen_s: np.ndarray, *, bounces: int = 1) -> list[Rally]:
    """Rallies in the order of time; ``seen_s`` are the times of all rows with a position.

    The ball may bounce ``bounces`` times between two hits. Turns before the first hit, and bounces of a dead ball,
    belong to none.
    """
    found: list[Rally] = []
    bounced = 0
    for turn in turns:
        bounce = turn.event is Event.BOUNCE
        late = not found or turn.time_s - found[-1].turns[-1].time_s > PAUSE_S
        if bounce and late:
            continue
        if not bounce and (late or bounced > bounces or turn.event is Event.SERVE):
            found.append(Rally())
        bounced = bounced + 1 if bounce else 0
        found[-1].turns.append(turn)
    for rally in found:
        _end(rally, seen_s)
    return found


def _end(rally: Rally, seen_s: np.ndarray) -> None:
    """The ball is dead at the first bounce that no hit answers, or where it was last seen; later turns do not count."""
    last = max(i for i, turn in enumerate(rally.turns) if turn.event is not Event.BOUNCE)
    unanswered = rally.turns[last + 1 : last + 2]
    rally.turns = [*rally.turns[: last + 1], *unanswered]
    rally.stop_s = unanswered[0].time_s if unanswered else _last_seen(rally.turns[last].time_s, seen_s)


def _last_seen(hit_s: float, seen_s: np.ndarray) -> float:
    """The last position of the flight that a hit begins."""
    after = seen_s[np.searchsorted(seen_s, hit_s) :]
    gaps = np.flatnonzero(np.diff(after, prepend=hit_s) > GAP_S)
    flight = after[: int(gaps[0]) if len(gaps) else len(after)]
    return min(float(flight[-1]), hit_s + DEAD_S) if len(flight) else hit_s

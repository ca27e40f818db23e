"""The published rules for counting: which videos count, how far is a hit, and at which size distances are measured.

The first tolerance of a protocol is the one that its papers print; the others are reported beside it, because "4 px"
at 512x288 are 10 px at 1280x720.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from specktrack.errors import ConfigError

PAPER_WH = (512, 288)
"""The size at which the TrackNet papers measure distances."""

TENNIS_TEST_GAMES = (1, 4, 9)
"""TrackNetV4 (ICASSP 2025), protocol i: game-level test set of the ten tennis games."""

TENNIS_TRAIN_SHARE = 0.7
"""TrackNetV4, protocol ii: whole clips, in order, until 70 % of all frames are training data."""


@dataclass(frozen=True)
class Tolerance:
    """How far a prediction may lie from its label."""

    name: str
    px: float
    at_wh: tuple[int, int] | None = None
    """The size that pictures are scaled to before the distance is taken; None measures in source px."""
    strict: bool = False
    """A distance equal to ``px`` is a miss."""


@dataclass(frozen=True)
class Protocol:
    """A rule for counting."""

    tolerances: tuple[Tolerance, ...]
    select: Callable[[Mapping[str, int]], set[str]] = set
    """From frames by video URI to the URIs that count."""
    occluded_is_absent: bool = False
    """Labels of occluded positions count as absent."""


def tennis_place(video_uri: str) -> tuple[int, int]:
    """(game, clip) of a video of the tennis dataset, from ``.../game3/Clip2/``; ConfigError if it is not one."""
    found = re.search(r"game[_ ]?(\d+)/clip[_ ]?(\d+)", video_uri, re.IGNORECASE)
    if not found:
        raise ConfigError("not a clip of the tennis dataset", video_uri, remedy="use the protocol 'points'")
    return int(found[1]), int(found[2])


def tennis_game_test(frames: Mapping[str, int]) -> set[str]:
    """All clips of the test games."""
    return {uri for uri in frames if tennis_place(uri)[0] in TENNIS_TEST_GAMES}


def tennis_clip_test(frames: Mapping[str, int]) -> set[str]:
    """The clips that begin after the training share of all frames, in order of game and clip."""
    limit, before, chosen = TENNIS_TRAIN_SHARE * sum(frames.values()), 0, set()
    for uri in sorted(frames, key=tennis_place):
        if before >= limit:
            chosen.add(uri)
        before += frames[uri]
    return chosen


_PAPER = Tolerance("4 px at 512x288", 4, PAPER_WH)
_SOURCE = (Tolerance("4 px", 4), Tolerance("5 px", 5))

PROTOCOLS: Mapping[str, Protocol] = {
    # Every labelled frame once.
    "points": Protocol((_PAPER, *_SOURCE)),
    # TrackNetV2 and V3 on shuttlecocks; each frame counts once, as in V3 (V2 counts its three outputs apart).
    "shuttlecock": Protocol((_PAPER, *_SOURCE)),
    "tennis-game": Protocol((_PAPER, *_SOURCE), tennis_game_test),
    "tennis-clip": Protocol((_PAPER, *_SOURCE), tennis_clip_test),
    # WASB (BMVC 2023): strictly nearer than 4 px in the source; of the labels only clear and blurred ones are present.
    "wasb": Protocol((Tolerance("< 4 px", 4, strict=True), _PAPER), occluded_is_absent=True),
}

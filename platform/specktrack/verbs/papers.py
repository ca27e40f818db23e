"""Papers whose tables ``reproduce`` makes: data and split, what is trained, how it is read and counted, and figures.

A paper is here if its split is one of ``datasets.splits``: TrackNetV1 and V5 divided frames and windows at random.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from specktrack.config import read_yaml
from specktrack.errors import ConfigError

FIGURES = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Line:
    """One line of a paper's table."""

    network: str
    """Whose figures, in published.yaml."""
    where: str
    """Which of them."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """Settings of evaluate."""
    repaired: bool = False
    """Gaps are filled by the network that the paper's second recipe trains."""

    @property
    def figures(self) -> dict[str, float]:
        """The paper's, in per cent."""
        row = next(row for row in _published()[self.network]["rows"] if row["where"] == self.where)
        return {name: row[name] for name in ("accuracy", "precision", "recall", "f1") if name in row}


@dataclass(frozen=True)
class Paper:
    """How a paper comes to its table."""

    split: str
    protocol: str
    tolerance: str
    """The protocol's tolerance by which it counts."""
    recipe: str
    lines: tuple[Line, ...]
    repair: str = ""
    """Recipe of a network that learns from the first one's rows."""


_EVERY_WINDOW = {"overlap": 1, "decoding": "largest-box", "per_window": True}
_TRIANGULAR = {"overlap": 8, "ensemble": "triangular", "decoding": "largest-box"}
_STEPS = {
    "step 3": {"overlap": 1, "decoding": "components"},
    "step 1": {"overlap": 3, "ensemble": "pooled", "decoding": "components"},
}


def _of_v4(where: str, split: str, protocol: str) -> Paper:
    return Paper(split, protocol, "published", "tracknet-v4", (Line("tracknet-v4", where, _EVERY_WINDOW),))


def _of_wasb(sport: str, first: str, second: str) -> Paper:
    lines = (Line("wasb", first, _STEPS["step 3"]), Line("wasb", second, _STEPS["step 1"]))
    return Paper(f"wasb-{sport}", "wasb", "< 4 px", "wasb", lines)


PAPERS: Mapping[str, Paper] = {
    "tracknetv2": Paper(
        "shuttlecock-2020", "shuttlecock", "published", "tracknet-v2",
        (Line("tracknet-v2", "ICPAI 2020, badminton test match, 3-in-3-out", _EVERY_WINDOW),),
    ),
    "tracknetv3": Paper(
        "shuttlecock", "shuttlecock", "published", "tracknet-v3",
        (
            Line("tracknet-v3", "MMAsia 2023, badminton, background and mixup", _TRIANGULAR),
            Line("inpaintnet", "MMAsia 2023, badminton, 16 frames, 30 % hidden", _TRIANGULAR, repaired=True),
        ),
        repair="inpaintnet",
    ),
    "tracknetv4": _of_v4("ICASSP 2025, badminton, on V2", "shuttlecock-2020", "shuttlecock"),
    "tracknetv4-tennis-game": _of_v4("the same, tennis by games", "tennis-game", "tennis-game"),
    "tracknetv4-tennis-clip": _of_v4("the same, tennis by clips", "tennis-clip", "tennis-clip"),
    "tracknetv4-on-v3": Paper(
        "shuttlecock", "shuttlecock", "published", "tracknet-v4-on-v3",
        (Line("tracknet-v4-on-v3", "ICASSP 2025, badminton", _TRIANGULAR),),
    ),
    "wasb-badminton": _of_wasb("badminton", "BMVC 2023 (transcript), badminton, step 3", "the same, step 1"),
    **{
        f"wasb-{sport}": _of_wasb(sport, f"{sport}, step 3", f"{sport}, step 1")
        for sport in ("tennis", "soccer", "volleyball", "basketball")
    },
}  # fmt: skip


def paper(name: str) -> Paper:
    """The paper of a name; ConfigError names those that there are."""
    if name not in PAPERS:
        raise ConfigError("no such paper", name, remedy=f"there are: {', '.join(PAPERS)}")
    return PAPERS[name]


@cache
def _published() -> dict[str, Any]:
    return read_yaml(FIGURES)

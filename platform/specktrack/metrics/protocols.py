"""The published rules for counting: which videos count, how far is a hit, and at which size distances are measured.

The first tolerance of a protocol is the distance that its papers print, from the label itself and once per frame; the
others are reported beside it, because "4 px" at 512x288 are 10 px at 1280x720. ``published`` is the rule of the
TrackNetV2 and V3 programs to the letter: the truth is the whole px that their label heatmap gives back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from specktrack.datasets.splits import BY_NAME, split_videos
from specktrack.errors import ConfigError

PAPER_WH = (512, 288)
"""The size at which the TrackNet papers measure distances."""


@dataclass(frozen=True)
class Tolerance:
    """How far a prediction may lie from the truth."""

    name: str
    px: float
    at_wh: tuple[int, int] | None = None
    """The size that pictures are scaled to before the distance is taken; None measures in source px."""
    strict: bool = False
    """A distance equal to ``px`` is a miss."""
    truth: Literal["label", "heatmap"] = "label"
    """The label itself, or ``metrics.heatmap_truth`` of it, which needs ``at_wh``."""


@dataclass(frozen=True)
class Protocol:
    """A rule for counting."""

    tolerances: tuple[Tolerance, ...]
    split: str | None = None
    """Only the test part of this split of ``datasets.splits`` counts."""
    split_by_format: Mapping[str, str] = field(default_factory=dict)
    """The same, where the split depends on the dataset's format; other formats count whole."""
    names_only: bool = False
    """Videos whose name says nothing about the split count too."""
    occluded_is_absent: bool = False
    """Labels of occluded positions count as absent."""

    def counted(self, frames: Mapping[str, int], *, layout: str = "", split: str | None = None) -> set[str]:
        """The videos that count, of ``frames`` (labelled frames by URI) of a dataset.

        ``layout`` and ``split`` are those of its card: a part that was split off before counts whole, if it is the
        test part. ConfigError if it is another, or if a name does not belong to the split.
        """
        wanted = self.split or self.split_by_format.get(layout)
        if wanted is None:
            return set(frames)
        by, _, part = (split or "").partition("/")
        if by == wanted:
            if part != "test":
                raise ConfigError("the protocol counts only the test part", split, remedy="use the protocol 'points'")
            return set(frames)
        if self.names_only:
            return {uri for uri in frames if BY_NAME[wanted](uri) in ("test", None)}
        return split_videos(wanted, frames)["test"]


_PAPER = Tolerance("4 px at 512x288", 4, PAPER_WH)
_PUBLISHED = Tolerance("published", 4, PAPER_WH, truth="heatmap")
_V1_WH = (1280, 720)
"""The size at which TrackNetV1 measures: 5 px for tennis, 7.5 px for badminton."""
_STRICT = Tolerance("< 4 px at 512x288", 4, PAPER_WH, strict=True)
"""TrackNetV5's program."""
_WASB = Tolerance("< 4 px", 4, strict=True)
"""WASB's, in the source."""
_SOURCE = (Tolerance("4 px", 4), Tolerance("5 px", 5))
_TENNIS = (_STRICT, Tolerance("5 px at 1280x720", 5, _V1_WH))
_WASB_SPLITS = {
    "wasb-soccer": "wasb-soccer", "tennis": "wasb-tennis", "shuttlecock": "wasb-badminton",
    "wasb-volleyball": "wasb-volleyball", "wasb-basketball": "wasb-basketball",
}  # fmt: skip

PROTOCOLS: Mapping[str, Protocol] = {
    # Every labelled frame once, at the distances that tables print: V2 to V4's at their size, WASB's in the source.
    "points": Protocol((_PAPER, *_SOURCE, _PUBLISHED, _WASB)),
    # TrackNetV2 and V3 on shuttlecocks: the test matches; V3's corrected labels and dropped frames come with the data.
    "shuttlecock": Protocol(
        (_PAPER, *_SOURCE, _PUBLISHED, Tolerance("7.5 px at 1280x720", 7.5, _V1_WH)),
        split="shuttlecock", names_only=True,
    ),
    # TrackNetV4 on tennis, with the tolerances of V1 and V5.
    "tennis-game": Protocol((_PAPER, *_SOURCE, _PUBLISHED, *_TENNIS), split="tennis-game"),
    "tennis-clip": Protocol((_PAPER, *_SOURCE, _PUBLISHED, *_TENNIS), split="tennis-clip"),
    # WASB (BMVC 2023): strictly nearer than 4 px in the source; of the labels only clear and blurred ones are present.
    "wasb": Protocol(
        (_WASB, _PAPER),
        split_by_format=_WASB_SPLITS, names_only=True, occluded_is_absent=True,
    ),
}  # fmt: skip

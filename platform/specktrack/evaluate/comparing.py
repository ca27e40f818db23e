"""One evaluation against another of the same labels: paired differences and how far chance may have made them.

Frames of one video resemble each other, so videos are drawn with replacement, and both evaluations are counted on what
was drawn (bootstrap; Efron, 1979).
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field
from pydantic_core import from_json

from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.metrics.points import PointCounts
from specktrack.storage import open_store

DRAWS = 2000
RATIOS = ("f1", "precision", "recall", "accuracy")
_NAMES = ("tp", "tn", "fp1", "fp2", "fn")


class Difference(Config):
    """One ratio of both evaluations."""

    now: float
    against: float
    difference: float
    """now - against."""
    low: float
    """95 % of the draws lie between ``low`` and ``high``; both are the difference if there is one video only."""
    high: float


class VideoDifference(Config):
    """Accuracy on one video."""

    video: str
    frames: int
    now: float
    against: float
    difference: float


class Comparison(Config):
    """Paired differences on the frames that both evaluations have, at the protocol's first tolerance."""

    against: str
    videos: int
    frames: int
    draws: int = Field(default=DRAWS)
    ratios: dict[str, Difference]
    per_video: tuple[VideoDifference, ...]
    """The worst changes first."""


def compare(frames: pa.Table, against: str, protocol: str) -> Comparison:
    """Compare a frames.parquet with that of the evaluation in the folder ``against``.

    ConfigError if that is none, was made by another protocol, or has no frame in common.
    """
    other = _frames_of(against, protocol)
    keys = ["video", "frame"]
    both = frames.select([*keys, "outcome"]).join(
        other.select([*keys, "outcome"]), keys, join_type="inner", right_suffix="_old"
    )
    if not both.num_rows:
        raise ConfigError("the evaluations have no frames in common", place=against, remedy="evaluate the same labels")
    videos = pc.unique(both["video"]).to_pylist()
    which = pc.index_in(both["video"], value_set=pa.array(videos)).to_numpy()
    now, old = (_counts(both[name], which, len(videos)) for name in ("outcome", "outcome_old"))
    drawn = np.random.default_rng(0).integers(len(videos), size=(DRAWS, len(videos)))
    draws_now, draws_old = (_ratios(counts[drawn].sum(axis=1)) for counts in (now, old))
    totals = _ratios(now.sum(axis=0)[None]), _ratios(old.sum(axis=0)[None])
    ratios = {}
    for name in RATIOS:
        a, b = (float(total[name][0]) for total in totals)
        low, high = (float(value) for value in np.percentile(draws_now[name] - draws_old[name], (2.5, 97.5)))
        ratios[name] = Difference(now=a, against=b, difference=a - b, low=low, high=high)
    per_video = [
        VideoDifference(video=video, frames=int(n.sum()), now=a, against=b, difference=a - b)
        for video, n, a, b in zip(
            videos, now, _ratios(now)["accuracy"].tolist(), _ratios(old)["accuracy"].tolist(), strict=True
        )
    ]
    per_video.sort(key=lambda each: each.difference)
    return Comparison(
        against=against, videos=len(videos), frames=both.num_rows, ratios=ratios, per_video=tuple(per_video)
    )


def _frames_of(place: str, protocol: str) -> pa.Table:
    store = open_store(place)
    if not store.exists("evaluation.json") or not store.exists("frames.parquet"):
        raise ConfigError("no evaluation of points found", place, remedy="give the output of an earlier evaluate")
    made_by = from_json(store.get("evaluation.json")).get("protocol")
    if made_by != protocol:
        raise ConfigError(f"that evaluation used protocol {made_by}, this one uses {protocol}", place)
    return pq.read_table(io.BytesIO(store.get("frames.parquet")))


def _counts(outcome: pa.ChunkedArray, which: np.ndarray, videos: int) -> np.ndarray:
    """The five counts of each video, int [V, 5]."""
    number = pc.index_in(outcome, value_set=pa.array(_NAMES)).to_numpy()
    return np.bincount(which * len(_NAMES) + number, minlength=videos * len(_NAMES)).reshape(videos, len(_NAMES))


def _ratios(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Each ratio of counts [D, 5], [D]."""
    each = [PointCounts(**dict(zip(_NAMES, row, strict=True))) for row in counts.tolist()]
    return {name: np.array([getattr(count, name) for count in each]) for name in RATIOS}

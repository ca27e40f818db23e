"""specktrack tracks tiny, fast objects in video, on Ray.

    rows = specktrack.annotate("match.mp4")                       # pyarrow.Table, in this process, no cluster
    model = specktrack.load_model("NAME or path")                 # network + card
    session = specktrack.open_session(model)                      # push(frames) -> rows, finish() -> rows
    for row in specktrack.follow("match.mp4", [0, 412, 233.5, 14, 11]):  ...   # what a box shows: frame, cx, cy, w, h
    table = specktrack.read_annotations("s3://bucket/out")        # scan_annotations() for batches
    events = specktrack.events(table)                             # hits, bounces, rallies

Each name is imported on first use, so ``import specktrack`` is fast and loads neither torch nor Ray.
"""

from typing import TYPE_CHECKING, Any

from specktrack.lazy import names

if TYPE_CHECKING:
    from specktrack.annotating import annotate_here as annotate
    from specktrack.annotating.follow import follow
    from specktrack.ledger import read_annotations, scan_annotations
    from specktrack.models.checkpoint import load_model
    from specktrack.rallies import events
    from specktrack.tracking.tracker import open_session

__version__ = "0.1.0"
__all__ = [
    "__version__", "annotate", "events", "follow", "load_model", "open_session", "read_annotations", "scan_annotations",
]  # fmt: skip

_names = names(
    __name__,
    annotate_here="specktrack.annotating.clips",
    events="specktrack.rallies",
    follow="specktrack.annotating.follow",
    load_model="specktrack.models.checkpoint",
    open_session="specktrack.tracking.tracker",
    read_annotations="specktrack.ledger",
    scan_annotations="specktrack.ledger",
)


def __getattr__(name: str) -> Any:
    return _names("annotate_here" if name == "annotate" else name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Annotating: videos in, one row per frame out, on a cluster (`annotate`) or in this process (`annotate_here`)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from specktrack.annotating.config import AnnotateConfig, AnnotateReport

if TYPE_CHECKING:
    from specktrack.annotating.clips import annotate_here
    from specktrack.annotating.job import annotate

__all__ = ["AnnotateConfig", "AnnotateReport", "annotate", "annotate_here"]

_HOME = {"annotate": "specktrack.annotating.job", "annotate_here": "specktrack.annotating.clips"}


def __getattr__(name: str) -> Any:
    """The functions without loading torch and ray before they are used: ``specktrack annotate --help`` is fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

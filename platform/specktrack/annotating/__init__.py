"""Annotating: videos in, one row per frame out, on a cluster (`annotate`) or in this process (`annotate_here`)."""

from typing import TYPE_CHECKING

from specktrack.annotating.config import AnnotateConfig, AnnotateReport
from specktrack.lazy import names

if TYPE_CHECKING:
    from specktrack.annotating.clips import annotate_here
    from specktrack.annotating.job import annotate

__all__ = ["AnnotateConfig", "AnnotateReport", "annotate", "annotate_here"]

__getattr__ = names(__name__, annotate="specktrack.annotating.job", annotate_here="specktrack.annotating.clips")
"""The functions without loading torch and ray before they are used: ``specktrack annotate --help`` is fast."""

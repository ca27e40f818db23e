"""specktrack follows tiny, fast objects through video, on Ray.

    rows = specktrack.annotate("match.mp4")                       # pyarrow.Table, in this process, no cluster
    model = specktrack.load_model("NAME or path")                 # network + card
    session = specktrack.open_session(model)                      # push(frames) -> rows, finish() -> rows
    table = specktrack.read_annotations("s3://bucket/out")        # scan_annotations() for batches

Each name is imported when it is first used, so ``import specktrack`` is fast and loads neither torch nor ray.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specktrack.annotate import annotate_here as annotate
    from specktrack.ledger import read_annotations, scan_annotations
    from specktrack.models.checkpoint import load_model
    from specktrack.tracking import open_session

__version__ = "0.1.0"
__all__ = ["__version__", "annotate", "load_model", "open_session", "read_annotations", "scan_annotations"]

_HOME = {
    "annotate": "specktrack.annotate:annotate_here",
    "load_model": "specktrack.models.checkpoint:load_model",
    "open_session": "specktrack.tracking:open_session",
    "read_annotations": "specktrack.ledger:read_annotations",
    "scan_annotations": "specktrack.ledger:scan_annotations",
}


class _Package(ModuleType):
    """Keeps ``specktrack.annotate`` the function: importing the module of that name would bind the module instead."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Names whose modules are imported when they are first used, so that help and small verbs start at once."""

import importlib
from typing import Any


def load(path: str) -> Any:
    """The object that ``module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)

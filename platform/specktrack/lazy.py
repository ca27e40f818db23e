"""Names whose modules are imported when they are first used, so that help and small verbs start at once."""

import importlib
from collections.abc import Callable
from typing import Any


def load(path: str) -> Any:
    """The object that ``module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def names(package: str, **homes: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names, one keyword each, are those of other modules."""

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load(f"{homes[name]}:{name}")

    return get

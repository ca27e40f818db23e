"""Which settings name a place, said by their types, and what a relative one means to those who work in other folders.

A job of a cluster and a replica of a server run in folders of their own: before settings are sent there, ``placed``
makes the relative paths among them absolute.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True)
class Names:
    """Marks a type of setting that names a place."""

    is_word: Callable[[str], bool] = _never
    """Whether a text is none, but a word that the setting also takes."""
    lists: bool = False
    """``@file`` names a list of places."""

    def absolute(self, text: str) -> str:
        """The place as others find it; URIs, words and absolute paths stay as they are."""
        at, path = ("@", text[1:]) if self.lists and text.startswith("@") else ("", text)
        if not path or "://" in path or self.is_word(text) or Path(path).expanduser().is_absolute():
            return text
        return f"{at}{os.path.abspath(Path(path).expanduser())}"  # noqa: PTH100 - it also resolves ".."


Place = Annotated[str, Names()]
"""A file or folder, or an s3:// URI."""
SourcePlace = Annotated[str, Names(lists=True)]
"""A source of videos for ``expand_sources``: a file, folder, glob, s3:// prefix or @list.txt."""


def names_of(field: FieldInfo) -> Names | None:
    """The mark of a setting's type, wherever in it: ``tuple[Place, ...]`` and ``Place | None`` have one."""
    return next((mark for mark in (*field.metadata, *_marks(field.annotation)) if isinstance(mark, Names)), None)


def placed(config: AnyModel) -> AnyModel:
    """``config`` with the relative paths among its settings, and the settings below them, made absolute."""
    changed = {}
    for name, field in type(config).model_fields.items():
        value, names = getattr(config, name), names_of(field)
        if isinstance(value, BaseModel):
            new: Any = placed(value)
        elif names is None or value is None:
            continue
        else:
            new = names.absolute(value) if isinstance(value, str) else tuple(map(names.absolute, value))
        if new != value:
            changed[name] = new
    return config.model_copy(update=changed)


def _marks(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in get_args(annotation):
        yield from _marks(inner)

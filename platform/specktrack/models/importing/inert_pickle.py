"""Unpickling that builds tensors and plain containers only: what ``torch.load`` uses for files that hold more.

pytracking keeps its settings, statistics and constructors beside the weights, as objects of its own classes. Here every
name that such a file asks for, but for those of ``_KNOWN``, becomes an empty stand-in, so nothing of the file's choice
is imported or called, and what it says about its objects is dropped.
"""

import pickle
from collections import OrderedDict
from typing import Any, Self

import torch


class Inert:
    """Stands in for any class or function: takes everything, holds nothing."""

    def __new__(cls, *_: object, **__: object) -> Self:
        """Accepts any arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None:
        """Drop ``item``."""

    def extend(self, items: object) -> None:
        """Drop ``items``."""


class _Tensor:
    """A class and no function, since a pickle may set the attributes of functions."""

    def __new__(cls, storage: Any, offset: int, size: Any, stride: Any, *_: object) -> Any:  # a torch.Tensor
        return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad=False, backward_hooks=None)

    def __setstate__(self, state: object) -> None: ...


class _Parameter:
    def __new__(cls, data: Any, *_: object) -> Any:  # a torch.Tensor
        return data

    def __setstate__(self, state: object) -> None: ...


_KNOWN: dict[tuple[str, str], type] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _Parameter,
}


_ALLOCATES = {pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0]}


class Unpickler(pickle._Unpickler):
    """Storages are found by torch, which looks their types up in a table, before it asks here.

    The one in Python, whose memo is a dictionary: that in C makes an array as long as the highest number that a file
    names, 16 GB for five bytes. What makes room for a length that is only claimed is left out for the same reason.
    """

    dispatch = {code: read for code, read in pickle._Unpickler.dispatch.items() if code not in _ALLOCATES}

    def find_class(self, module_name: str, global_name: str, /) -> type:
        """The known class, else the stand-in."""
        return _KNOWN.get((module_name, global_name), Inert)


def load(file: Any, **options: Any) -> Any:
    """As ``pickle.load``: torch takes this module instead of ``pickle``."""
    return Unpickler(file, **options).load()

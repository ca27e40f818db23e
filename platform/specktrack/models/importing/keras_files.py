"""Reading Keras weights (.h5, .weights.h5, .keras) as numbered layers, whatever the Keras version called them."""

import io
import math
import re
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specktrack.errors import CheckpointError, ConfigError
from specktrack.models.importing.layouts import Public

KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")

_LEAVES = {
    "conv": ("kernel", "bias"),
    "norm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "prompt": ("a", "b"),
}
"""Names of a layer's tensors; Keras 3 writes their numbers in this order instead."""

MOST_BYTES = 2 * 10**9
"""Of all arrays of a file, as they are declared, and of what a .keras file, a zip archive, unfolds to: the largest
network here has a hundredth of it."""
_DAMAGED = (OSError, LookupError, RuntimeError, ValueError, TypeError, ArithmeticError, MemoryError, zipfile.BadZipFile)
"""Exceptions that h5py raises for a damaged file, depending on the damage."""
_WEIGHTS = "model.weights.h5"
_KINDS = {"conv2d": "conv", "batch_normalization": "norm", "motion_prompt_layer": "prompt"}
_LAYER = re.compile(rf"({'|'.join(_KINDS)})(?:_(\d+))?")


def read_keras(path: Path) -> Public:
    """Tensors as ``conv1/kernel``, ``norm1/gamma``, ``prompt1/a`` in the order in which layers were made.

    Kernels become [outputs, inputs, height, width]. ConfigError without h5py; CheckpointError for other files.
    """
    try:
        import h5py  # of the extra 'keras'
    except ImportError:
        raise ConfigError("Keras weights need h5py", str(path), remedy="pip install 'specktrack[keras]'") from None
    try:
        with h5py.File(_hdf5(path)) as file:
            found = [(name, np.array(item)) for name, item in _datasets(file, path)]
    except _DAMAGED as error:
        raise CheckpointError(f"not a readable Keras file: {error}", str(path)) from None
    layers: dict[str, dict[int, dict[str, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    for name, values in found:
        if place := _place(name):
            kind, number, leaf = place
            layers[kind][number][leaf] = values
    return Public({
        f"{kind}{count}/{leaf}": _tensor(values)
        for kind, numbered in layers.items()
        for count, number in enumerate(sorted(numbered), start=1)
        for leaf, values in numbered[number].items()
    })  # fmt: skip


def _hdf5(path: Path) -> Any:
    """The HDF5 file, which .keras files have inside."""
    if path.suffix != ".keras":
        return path
    with zipfile.ZipFile(path) as archive:
        size_bytes = archive.getinfo(_WEIGHTS).file_size  # zipfile reads no more than this, whatever unfolds
        if size_bytes > MOST_BYTES:
            raise CheckpointError("the weights inside expand to too much", f"{size_bytes:,} bytes", str(path))
        return io.BytesIO(archive.read(_WEIGHTS))


def _datasets(file: Any, path: Path) -> list[tuple[str, Any]]:
    """Every array of numbers of an HDF5 file, not yet read, with its path in it; the optimiser's are left out.

    CheckpointError for links and for arrays kept in other files, which lead anywhere, and for more than MOST_BYTES: a
    file of a kilobyte may declare terabytes.
    """
    import h5py

    groups, left_bytes, found = [("", file)], MOST_BYTES, []
    while groups:
        prefix, group = groups.pop()
        for name in group:
            if "optimizer" in name:
                continue
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise CheckpointError("a link instead of weights", f"{prefix}{name}", str(path))
            item = group[name]
            if h5py.h5o.get_info(item.id).rc > 1:  # it may hold itself
                raise CheckpointError("a link instead of weights", f"{prefix}{name}", str(path))
            if isinstance(item, h5py.Group):
                groups.append((f"{prefix}{name}/", item))
            elif isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
                if item.external or item.is_virtual:
                    raise CheckpointError("weights stored in another file", f"{prefix}{name}", str(path))
                left_bytes -= max(item.nbytes, math.prod(item.chunks or ()) * item.dtype.itemsize)
                if left_bytes < 0:
                    what = f"weights of more than {MOST_BYTES:,} bytes"
                    raise CheckpointError(what, f"{prefix}{name}", str(path))
                found.append((f"{prefix}{name}", item))
    return found


def _place(path: str) -> tuple[str, int, str] | None:
    """(kind, number of the layer, leaf) of a dataset's path; None for arrays of other layers."""
    *folders, last = re.split(r"[/\\]", path)
    named = [match for folder in folders if (match := _LAYER.fullmatch(folder))]
    if not named:
        return None
    kind = _KINDS[named[-1][1]]
    word = last.split(":")[0]
    leaf = _LEAVES[kind][int(word)] if word.isdigit() and int(word) < len(_LEAVES[kind]) else word
    return kind, int(named[-1][2] or 0), leaf


def _tensor(values: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(values.astype(np.float32))
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor

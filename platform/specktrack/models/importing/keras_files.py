"""Reading Keras weights (.h5, .weights.h5, .keras) as numbered layers, whatever the Keras version called them."""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
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
"""Of the weights inside a .keras file, which is a zip archive: the largest network here has a hundredth of it."""
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
            found = list(_datasets(file))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
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
            raise CheckpointError("the weights inside unfold to too much", f"{size_bytes:,} bytes", str(path))
        return io.BytesIO(archive.read(_WEIGHTS))


def _datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every array of an HDF5 group with its path, but for the optimiser's."""
    for name, item in group.items():
        if "optimizer" in name:
            continue
        if hasattr(item, "items"):
            yield from _datasets(item, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.array(item)


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

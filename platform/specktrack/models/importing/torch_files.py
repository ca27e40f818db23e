"""Reading public PyTorch checkpoints: tensors, numbers and words only, whatever else is in the file."""

import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from specktrack.errors import CheckpointError
from specktrack.models.importing import inert_pickle
from specktrack.models.importing.layouts import Public

_WRAPPERS = ("model_state_dict", "state_dict", "model", "net")
"""Keys under which programs keep the weights beside optimiser and counters."""

_scalar = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"), (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType,
]  # fmt: skip
"""A best score noted as a NumPy number is harmless, and torch would refuse the file for it."""

_DAMAGED = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError),
    *(OverflowError, MemoryError, AssertionError, struct.error),
    SafetensorError,  # torch reads a file of that suffix with that library
)
"""Exceptions that loading raises for a damaged or hostile file, depending on the damage."""


def read_torch(path: Path) -> Public:
    """Tensors by name, without wrappers; objects of foreign classes are dropped. CheckpointError if unreadable."""
    try:
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, about which nobody here can do anything
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert_pickle)
    except _DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"not a readable PyTorch file: {reason}", str(path)) from None
    if not isinstance(content, dict):
        raise CheckpointError("not a state dict", type(content).__name__, str(path))
    settings = content.get("param_dict", {})
    return Public(_tensors(content, path), settings if isinstance(settings, dict) else {})


def _tensors(content: dict[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError("no tensors in the file", list(content)[:4], str(path))
    if all(key.startswith("module.") for key in tensors):  # saved from several GPUs
        return {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors

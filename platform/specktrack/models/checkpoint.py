"""Weights on disk: one safetensors file with its model card inside, named by its SHA-256.

No pickle is read or written. Damage is seen: the card holds the hash over all tensors.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from specktrack import __version__
from specktrack.config import Config, explain
from specktrack.errors import CheckpointError, ConfigError
from specktrack.metrics.calibration import logit
from specktrack.models.cards import CARD
from specktrack.models.entry import NetworkConfig
from specktrack.models.network import Network
from specktrack.models.registry import fetched, is_registered
from specktrack.models.zoo import WEIGHTS, build, network_config, without_weights
from specktrack.schema import sha256_hex
from specktrack.storage import FileStore, MissingError, local_path, open_store
from specktrack.storage.files import settle

_OF_A_RUN = "model.safetensors"


class Calibration(Config):
    """Makes a score a probability: s becomes sigmoid(slope * logit(s) + offset), by Platt's scaling."""

    slope: float = Field(default=1.0, gt=0)
    offset: float = 0.0

    def of(self, score: np.ndarray) -> np.ndarray:
        """float32 [...]: the share of candidates with such a ``score`` [...] that is right; unchanged if not fitted."""
        if self == Calibration():
            return score
        return (1 / (1 + np.exp(-self.slope * logit(score) - self.offset))).astype(np.float32)


class ModelCard(Config):
    """The model card: facts to know before using weights."""

    name: str
    """Name of these weights, by default the network's."""
    network: SerializeAsAny[NetworkConfig]
    description: str = ""
    """One sentence."""
    data: tuple[str, ...] = ()
    """Data that it was trained on."""
    recipe: dict[str, Any] = {}
    """The resolved training configuration."""
    calibration: Calibration = Calibration()
    """From a heatmap's peak to the score of a candidate: the choice weighs probabilities, and rows say them. Logits of
    kinds are multiplied by its slope."""
    step_s: float = Field(default=1 / 30, gt=0)
    """Seconds between the frames of the windows that it was taught; video of 25 to 30 frames/s is what this field's
    networks learn from."""
    metrics: dict[str, Any] = {}
    """Measured numbers, each with what it was measured on."""
    licence: str = ""
    part: str = ""
    """How the names of the only tensors begin that are there, such as a backbone's; all are, if empty."""
    package_version: str = __version__
    weights_sha256: str = ""
    """Over names, shapes, types and bytes of all tensors."""


@dataclass(frozen=True)
class Model:
    """A network with its weights and their card."""

    network: Network
    card: ModelCard

    @property
    def config(self) -> NetworkConfig:
        """The network's configuration."""
        return self.network.config

    @property
    def sha256(self) -> str:
        """Identity of network and weights together."""
        return hashlib.sha256(f"{self.config.sha()}{self.card.weights_sha256}".encode()).hexdigest()


def save_model(path: str | Path, network: Network, card: ModelCard) -> ModelCard:
    """Write weights and card as one safetensors file, atomically; return the card with the weights' hash."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _state(network, card).items()}
    card = card.model_copy(update={"weights_sha256": tensors_sha256(tensors)})
    save_tensors(path, tensors, {CARD: card.model_dump_json()})
    return card


def load_model(name_or_path: str | Path) -> Model:
    """Load packaged weights by name or a checkpoint by path, on the CPU, in evaluation mode.

    Raises CheckpointError if there are no such weights, or they are damaged, of another network or of a part of one.
    """
    card, tensors = load_weights(name_or_path)
    if card.part:
        what = f"only the part {card.part.rstrip('.')!r} of {card.network.name}"
        raise CheckpointError(what, place=str(name_or_path), remedy="train the rest: use it as init in `train`")
    shapes, given = _shapes(card.network), {name: tensor.shape for name, tensor in tensors.items()}
    if different := sorted(name for name in shapes | given if shapes.get(name) != given.get(name)):
        raise CheckpointError("the weights do not fit the network in their card", different[0], str(name_or_path))
    network = build(card.network)
    network.load_state_dict(tensors)
    return Model(network.eval(), card)


@lru_cache(maxsize=64)
def _shapes(network: NetworkConfig) -> dict[str, torch.Size]:
    """Of a network's tensors by name, without making any; CheckpointError if there can be no such network.

    A card is anyone's text: widths of a million would take all memory before a single weight is compared.
    """
    try:
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in build(network).state_dict().items()}
    except (RuntimeError, ValueError, TypeError) as error:  # TypeError: a number beyond 64 bits
        raise CheckpointError(f"the card's network cannot be built: {error}", network.name) from None


def load_weights(name_or_path: str | Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    """The card and the tensors behind a model's name or path; CheckpointError if there are none, or damaged ones."""
    path = model_path(name_or_path)
    tensors, metadata = load_tensors(path)
    if CARD not in metadata:
        raise CheckpointError("not a specktrack checkpoint: it has no model card", str(path))
    try:
        values = from_json(metadata[CARD])
        card = ModelCard.model_validate({**values, "network": network_config(values["network"])})
    except ValidationError as error:
        raise CheckpointError(explain(error, ModelCard), place=str(path)) from None
    except (ConfigError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"the model card cannot be read: {error}", place=str(path)) from None
    if tensors_sha256(tensors) != card.weights_sha256:
        raise CheckpointError("the weights do not match the hash in their card", str(path), remedy="copy them again")
    return card, tensors


def _state(network: Network, card: ModelCard) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name.startswith(card.part)}


def model_path(name_or_path: str | Path) -> Path:
    """The file behind a model's name or path; CheckpointError says which names there are."""
    if is_registered(str(name_or_path)):
        return fetched(str(name_or_path))
    packaged = WEIGHTS / f"{name_or_path}.safetensors"
    if str(name_or_path).replace("-", "").isalnum() and packaged.is_file():
        return packaged
    path = local_path(str(name_or_path)) or _fetched(str(name_or_path))
    if path.is_dir():
        path = path / _OF_A_RUN
    if not path.is_file():
        names = sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))
        remedy = without_weights(str(name_or_path)) or f"give the path of a checkpoint or one of: {', '.join(names)}"
        raise CheckpointError("no such model", str(name_or_path), remedy=remedy)
    return path


def _fetched(uri: str) -> Path:
    """A copy of a model in S3, or of a run's there, kept on this machine under its hash."""
    folder, _, name = uri.rpartition("/") if uri.endswith(".safetensors") else (uri.rstrip("/"), "", _OF_A_RUN)
    try:
        data = open_store(folder).get(name)
    except MissingError:
        raise CheckpointError(
            "no such model", uri, remedy="give the path or URI of a checkpoint or of a finished run"
        ) from None
    kept = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "specktrack" / "models"
    path = kept / f"{sha256_hex(data)}.safetensors"
    if not path.is_file():
        FileStore(kept).put(path.name, data)
    return path


def tensors_sha256(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that it is there whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(save(tensors, metadata))  # not save_file: it leaves a file that only its owner may read
    settle(partial, path)


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; CheckpointError if it cannot be read as one."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file: {error}", str(path)) from None

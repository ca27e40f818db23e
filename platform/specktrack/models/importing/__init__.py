"""Public checkpoints of the field's networks as checkpoints of this project: by key and shape, never by running code.

PyTorch files are read without building a foreign class, Keras files as HDF5. What a file holds is found by a key that
only one public layout has; every tensor of the network, or of the part that the layout stands for, must then be there
under its public key, with its shape, and no other.
"""

from pathlib import Path

import torch

from specktrack.errors import CheckpointError, ConfigError
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.models.entry import NetworkConfig
from specktrack.models.importing.keras_files import KERAS_SUFFIXES, read_keras
from specktrack.models.importing.keras_layouts import KERAS_LAYOUTS
from specktrack.models.importing.layouts import Layout, Public
from specktrack.models.importing.torch_files import read_torch
from specktrack.models.importing.torch_layouts import TORCH_LAYOUTS
from specktrack.models.network import Network
from specktrack.models.zoo import VARIANTS, build, network_config


def import_model(source: str | Path, destination: str | Path, *, network: str = "", licence: str = "") -> ModelCard:
    """Write the weights in ``source`` as a checkpoint; its card.

    ``network`` names a variant where the file cannot tell (two fusions have the same weights). Raises CheckpointError
    if the file cannot be read, is of no known layout, or lacks or adds a tensor; the first one is named.
    """
    if Path(destination).suffix != ".safetensors":
        raise ConfigError("the name of a checkpoint must end in .safetensors", str(destination))
    public, layout = read_public(source)
    config = network_config(layout.network(public) | _chosen(network))
    module = load_public(public, layout, config, str(source))
    card = ModelCard(
        name=network or config.name,
        network=config,
        description=f"Imported from a file of {layout.origin}. {config.about()}",
        part=layout.part,
        licence=licence or "not stated in the file: that of its publisher",
    )
    return save_model(destination, module, card)


def read_public(source: str | Path) -> tuple[Public, Layout]:
    """The contents and layout of a public checkpoint."""
    path = Path(source)
    if not path.is_file():
        raise CheckpointError("no such file", str(source))
    keras = path.suffix in KERAS_SUFFIXES
    public = read_keras(path) if keras else read_torch(path)
    for layout in KERAS_LAYOUTS if keras else TORCH_LAYOUTS:
        if layout.sign in public.tensors:
            return public, layout
    known = ", ".join(layout.origin for layout in (*TORCH_LAYOUTS, *KERAS_LAYOUTS))
    first = ", ".join(list(public.tensors)[:4])
    raise CheckpointError("unknown layout of weights", f"{first}, ...", str(source), remedy=f"known are: {known}")


def load_public(public: Public, layout: Layout, config: NetworkConfig, place: str) -> Network:
    """The network of ``config`` with the weights of ``public``; CheckpointError names the first wrong tensor.

    Beyond the layout's part, its weights are fresh.
    """
    module = build(config).eval()
    left = {key: tensor for key, tensor in public.tensors.items() if not key.startswith(layout.beside)}
    found = {}
    for name, wanted in module.state_dict().items():
        if not name.startswith(layout.part):
            continue
        key = layout.key(name)
        if name.endswith("num_batches_tracked") and key not in left:
            found[name] = torch.zeros_like(wanted)  # Keras does not count; nothing reads it after training
            continue
        if key not in left:
            raise CheckpointError(f"a tensor of {config.name} is missing", key, place)
        tensor = left.pop(key)
        if tensor.shape != wanted.shape:
            shapes = f"{tuple(tensor.shape)}, and {config.name} has {tuple(wanted.shape)}"
            raise CheckpointError(f"a tensor of another shape: {key!r} is {shapes}", place=place)
        found[name] = tensor
    if left:
        raise CheckpointError(f"a tensor that {config.name} does not have", next(iter(left)), place)
    module.load_state_dict(layout.settle(found), strict=not layout.part)
    return module


def _chosen(network: str) -> dict[str, object]:
    return {} if not network else dict(VARIANTS.get(network, {"name": network}))

"""The models that a server offers: what is known of each without loading torch again."""

from specktrack.errors import ConfigError
from specktrack.serving.answers import ModelInfo
from specktrack.serving.config import ServeConfig


class ServedModel(ModelInfo):
    """A model, and where the server finds it."""

    path: str
    """Name of the packaged weights, or path of a checkpoint."""


def catalog(config: ServeConfig) -> tuple[ServedModel, ...]:
    """The models of a configuration, loaded once to see that they are whole.

    CheckpointError if one is missing or damaged: a server never starts with weights it was not given.
    """
    entries = [_entry(path) for path in config.models]
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ConfigError(
            "two models have the same name", ", ".join(names), "models", "give their cards different names"
        )
    return tuple(entries)


def _entry(path: str) -> ServedModel:
    from specktrack.models.checkpoint import load_model  # torch, which the ingress does without

    model = load_model(path)
    return ServedModel(
        name=model.card.name,
        path=path,
        family=model.config.family,
        takes_prompt=model.config.takes_prompt,
        frames_in=model.config.frames_in,
        frames_out=model.config.frames_out,
        input_wh=model.config.input_wh,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        sha256=model.sha256,
        description=model.card.description,
    )

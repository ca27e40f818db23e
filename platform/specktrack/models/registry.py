"""Models that lie in an MLflow registry: ``mlflow:NAME@ALIAS`` or ``mlflow:NAME/VERSION``.

The server is the one that MLFLOW_TRACKING_URI (or MLFLOW_REGISTRY_URI) names. A version's weights are fetched once.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from specktrack.errors import CheckpointError, ConfigError

SCHEME = "mlflow:"
WEIGHTS_NAME = "model.safetensors"
_NAMED = re.compile(r"mlflow:(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


class Registered(NamedTuple):
    """The parts of a name of one version."""

    name: str
    alias: str | None
    version: str | None


def is_registered(text: str) -> bool:
    """Whether a model's name is one in a registry."""
    return text.startswith(SCHEME)


def parse_registered(text: str) -> Registered:
    """The parts of a name; ConfigError."""
    match = _NAMED.fullmatch(text)
    if match is None:
        remedy = "write mlflow:NAME@ALIAS or mlflow:NAME/VERSION"
        raise ConfigError("not a model of an MLflow registry", text, remedy=remedy)
    return Registered(match["name"], match["alias"], match["version"])


def require_mlflow() -> None:
    """ConfigError if the extra is not installed."""
    if find_spec("mlflow") is None:
        raise ConfigError("MLflow is not installed", remedy="pip install 'specktrack[mlflow]'")


def fetched(text: str) -> Path:
    """The weights that a registry has under a name, on this machine; CheckpointError if it has none."""
    wanted = parse_registered(text)
    require_mlflow()
    from mlflow import MlflowClient, artifacts
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        found = (
            client.get_model_version(wanted.name, wanted.version)
            if wanted.version
            else client.get_model_version_by_alias(wanted.name, str(wanted.alias))
        )
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "specktrack" / "mlflow"
        folder = cache / f"{found.run_id or wanted.name}-{found.version}"
        if not (folder / WEIGHTS_NAME).is_file():
            place = client.get_model_version_download_uri(wanted.name, found.version)
            artifacts.download_artifacts(artifact_uri=f"{place.rstrip('/')}/{WEIGHTS_NAME}", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        said = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the MLflow registry refused: {said}", text) from None
    return folder / WEIGHTS_NAME

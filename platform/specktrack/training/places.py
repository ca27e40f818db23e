"""Types of settings that name a place or a model.

Workers run in folders of their own, so a relative path means one below the folder in which the settings were read.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from specktrack.models.zoo import WEIGHTS
from specktrack.storage import local_path


def _absolute(place: str) -> str:
    return str(local_path(place) or place) if place else place


def _absolute_model(name: str) -> str:
    packaged = "/" not in name and (WEIGHTS / f"{name}.safetensors").is_file()
    return name if packaged or not Path(name).expanduser().exists() else _absolute(name)


Place = Annotated[str, AfterValidator(_absolute)]
"""A path, which becomes absolute, or an s3:// URI."""
ModelPlace = Annotated[str, AfterValidator(_absolute_model)]
"""The name of a packaged model, or the path of a checkpoint, which becomes absolute."""

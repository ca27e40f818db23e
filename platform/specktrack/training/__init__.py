"""Training on Ray Train: one verb, one function; a class of settings for each family of networks."""

from typing import TYPE_CHECKING, Any

from specktrack import lazy
from specktrack.training.config import RECIPES, TrainConfig, TrainReport, recipe_path

if TYPE_CHECKING:
    from specktrack.training.trainer import train

__all__ = ["RECIPES", "TrainConfig", "TrainReport", "recipe_path", "train"]


def __getattr__(name: str) -> Any:
    """``train`` without loading torch and ray before it is used: ``specktrack train --help`` is fast."""
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return lazy.load("specktrack.training.trainer:train")

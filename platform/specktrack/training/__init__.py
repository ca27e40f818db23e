"""Training on Ray Train: one verb, one function; a class of settings for each family of networks."""

from typing import TYPE_CHECKING

from specktrack.lazy import names
from specktrack.training.config import RECIPES, TrainConfig, TrainReport, recipe_path

if TYPE_CHECKING:
    from specktrack.training.sweeping import run
    from specktrack.training.trainer import train

__all__ = ["RECIPES", "TrainConfig", "TrainReport", "recipe_path", "run", "train"]

__getattr__ = names(__name__, run="specktrack.training.sweeping", train="specktrack.training.trainer")
"""The functions without loading torch and ray before they are used: ``specktrack train --help`` is fast."""

"""Training on Ray Train: one configuration class, one function."""

from specktrack.training.config import RECIPES, TrainConfig, TrainReport, recipe_path
from specktrack.training.trainer import train

__all__ = ["RECIPES", "TrainConfig", "TrainReport", "recipe_path", "train"]

"""Evaluating: rows against labels under a protocol."""

from specktrack.evaluate.config import EvaluateConfig
from specktrack.evaluate.points import EvaluationReport, evaluate

__all__ = ["EvaluateConfig", "EvaluationReport", "evaluate"]

"""Evaluating: rows against labels under a protocol, and box trackers against a benchmark."""

from specktrack.evaluate.box_report import BoxReport
from specktrack.evaluate.boxes import evaluate_boxes
from specktrack.evaluate.config import EvaluateConfig
from specktrack.evaluate.points import EvaluationReport
from specktrack.evaluate.points import evaluate as evaluate_points
from specktrack.metrics.boxes import BOX_PROTOCOLS

__all__ = ["BoxReport", "EvaluateConfig", "EvaluationReport", "evaluate"]


def evaluate(config: EvaluateConfig) -> EvaluationReport | BoxReport:
    """Evaluate under ``config.protocol``: points or boxes."""
    return evaluate_boxes(config) if config.protocol in BOX_PROTOCOLS else evaluate_points(config)

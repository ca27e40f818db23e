"""What an evaluation is told."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from specktrack.config import VerbConfig


class EvaluateConfig(VerbConfig):
    """Compare a model, or rows that exist, with labels."""

    verb: ClassVar[str] = "evaluate"

    data: str
    """The labels: a dataset's URI, or a folder in a format that ``data import`` knows."""
    model: str | None = None
    """Annotate the dataset's videos with this model (name or path) and compare its rows."""
    predictions: str | None = None
    """Compare these rows instead: an output of annotate, or a .parquet, .csv or .jsonl file with the row columns."""
    protocol: Literal["points", "shuttlecock", "tennis-game", "tennis-clip", "wasb"] = "points"
    """Which videos count and how far is a hit."""
    output: str | None = None
    """Folder or s3:// prefix for evaluation.json and frames.parquet."""
    address: str | None = None
    """Annotate on this Ray cluster ('auto', 'local' or ray://...); in this process if not given."""

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> Self:
        if (self.model is None) == (self.predictions is None):
            raise ValueError("give either model or predictions")
        return self

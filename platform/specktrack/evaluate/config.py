"""What an evaluation is told."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from specktrack.config import VerbConfig
from specktrack.tracking.following import Following, Manner, changed


class EvaluateConfig(VerbConfig, Manner):
    """Compare a model, or rows that exist, with labels."""

    verb: ClassVar[str] = "evaluate"

    data: str
    """The labels: a dataset's URI, a folder in a format that ``data import`` knows, or a box benchmark's folder or
    JSON file."""
    model: str | None = None
    """Annotate the dataset's videos with this model (name or path), from the first box on in a box benchmark."""
    predictions: str | None = None
    """Compare these instead: an output of annotate, a .parquet, .csv or .jsonl file with the row columns, or (boxes) a
    folder of text files, one per sequence, in one folder per tracker."""
    protocol: Literal[
        "points", "shuttlecock", "tennis-game", "tennis-clip", "wasb",
        "latot-all", "latot-test", "otb", "lasot", "got10k", "uav", "pointing",
    ] = "points"  # fmt: skip
    """Which videos count and how far is a hit; those after wasb are of box tracking."""
    per_window: bool = False
    """Also count every output of every window apart, as TrackNetV2 and V4 print it (points only). A model sees the
    videos a second time, window by window; predictions need a column ``window``: the first frame of a row's window."""
    output: str | None = None
    """Folder or s3:// prefix for evaluation.json, tables in Parquet and, for boxes, plots and report.html."""
    address: str | None = None
    """Work on this Ray cluster ('auto', 'local' or ray://...); in this process if not given."""

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> Self:
        if (self.model is None) == (self.predictions is None):
            raise ValueError("give either model or predictions")
        if self.per_window and self.address is not None:
            raise ValueError("per_window works in this process, without address")
        if self.model is None and (idle := sorted(changed(self))):
            raise ValueError(f"{idle[0]} goes with model; predictions are compared as they are")
        return self

    @property
    def following(self) -> Following:
        """How the model follows, where one is named."""
        assert self.model is not None
        return Following.of(self.model, self)

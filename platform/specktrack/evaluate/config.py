"""Settings of an evaluation."""

from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from specktrack.config import VerbConfig
from specktrack.metrics.boxes import BOX_PROTOCOLS
from specktrack.metrics.protocols import PROTOCOLS
from specktrack.models.zoo import ModelPlace
from specktrack.storage.places import Place
from specktrack.tracking.following import Following, Manner, changed


class EvaluateConfig(VerbConfig, Manner):
    """Compare a model, or existing rows, with labels."""

    verb: ClassVar[str] = "evaluate"

    data: Place
    """The labels: the URI of a dataset, a folder in a format that ``data import`` can read, or the folder or JSON file
    of a box benchmark."""
    model: ModelPlace | None = None
    """Model (name or path) to run on the dataset's videos; in a box benchmark, it starts from the first box."""
    predictions: Place | None = None
    """Existing predictions instead of a model: an output of annotate, a .parquet, .csv or .jsonl file with the row
    columns, or (boxes) a folder of text files, one per sequence, in one folder per tracker."""
    protocol: str = Field(
        default="points",
        description=f"Which videos count, and the tolerance of a hit: {', '.join(PROTOCOLS)}; for box tracking: "
        f"{', '.join(BOX_PROTOCOLS)}.",
        json_schema_extra={"enum": [*PROTOCOLS, *BOX_PROTOCOLS]},
    )
    per_window: bool = False
    """Also count every output of every window separately, as in the tables of TrackNetV2 and V4 (points only). A model
    then sees the videos a second time, window by window; predictions need a column ``window``: the first frame of the
    row's window."""
    against: Place | None = None
    """Output of an earlier evaluation of the same labels (points only): report paired differences, with confidence
    intervals by a bootstrap over videos."""
    stream: int | None = Field(default=None, ge=0)
    """Number of the video stream that was labelled, if ``data`` is a folder of labels and its videos have several
    streams; by default the best. The card of a dataset records it."""
    output: Place | None = None
    """Folder or s3:// prefix for evaluation.json, Parquet tables and, for boxes, plots and report.html."""
    address: str | None = None
    """Ray cluster to use ('auto', 'local' or ray://...); by default, work in this process."""

    @field_validator("protocol")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PROTOCOLS and value not in BOX_PROTOCOLS:
            raise ValueError(f"there are: {', '.join([*PROTOCOLS, *BOX_PROTOCOLS])}")
        return value

    @model_validator(mode="after")
    def _one_source_of_rows(self) -> Self:
        if (self.model is None) == (self.predictions is None):
            raise ValueError("give either model or predictions")
        if self.against is not None and self.protocol in BOX_PROTOCOLS:
            raise ValueError("against only works for points")
        if self.per_window and self.address is not None:
            raise ValueError("per_window only works in this process: leave out address")
        if self.model is None and (idle := sorted(changed(self))):
            raise ValueError(f"{idle[0]} needs a model; predictions are compared as they are")
        return self

    @property
    def following(self) -> Following:
        """How the model follows, where one is named."""
        assert self.model is not None
        return Following.of(self.model, self)

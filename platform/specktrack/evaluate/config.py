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
    """Compare a model, or rows that exist, with labels."""

    verb: ClassVar[str] = "evaluate"

    data: Place
    """The labels: a dataset's URI, a folder in a format that ``data import`` knows, or a box benchmark's folder or
    JSON file."""
    model: ModelPlace | None = None
    """Annotate the dataset's videos with this model (name or path), from the first box on in a box benchmark."""
    predictions: Place | None = None
    """Compare these instead: an output of annotate, a .parquet, .csv or .jsonl file with the row columns, or (boxes) a
    folder of text files, one per sequence, in one folder per tracker."""
    protocol: str = Field(
        default="points",
        description=f"Which videos count and how far is a hit: {', '.join(PROTOCOLS)}; of box tracking: "
        f"{', '.join(BOX_PROTOCOLS)}.",
        json_schema_extra={"enum": [*PROTOCOLS, *BOX_PROTOCOLS]},
    )
    per_window: bool = False
    """Also count every output of every window apart, as TrackNetV2 and V4 print it (points only). A model sees the
    videos a second time, window by window; predictions need a column ``window``: the first frame of a row's window."""
    against: Place | None = None
    """Output of an earlier evaluation of the same labels (points only): paired differences, with confidence intervals
    by a bootstrap over videos."""
    stream: int | None = Field(default=None, ge=0)
    """Number of the video stream that was labelled, for data that is a folder of labels and videos of several streams;
    the default takes the best. A dataset's card names it."""
    output: Place | None = None
    """Folder or s3:// prefix for evaluation.json, tables in Parquet and, for boxes, plots and report.html."""
    address: str | None = None
    """Work on this Ray cluster ('auto', 'local' or ray://...); in this process if not given."""

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
            raise ValueError("against compares evaluations of points")
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

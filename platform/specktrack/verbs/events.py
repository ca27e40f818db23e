"""``specktrack events``: events of the ball, from rows."""

import io
from collections import Counter
from typing import Any, ClassVar, Self

import pyarrow.parquet as pq
from pydantic import Field, PositiveFloat, model_validator

from specktrack import telemetry
from specktrack.config import Config, VerbConfig
from specktrack.datasets.rows import read_rows
from specktrack.rallies import COURTS, Court, CourtView, analyse
from specktrack.rallies.analysis import THRESHOLD
from specktrack.storage import open_store
from specktrack.storage.places import Place

EVENTS_NAME, FLIGHTS_NAME = "events.parquet", "flights.parquet"


def court_field() -> Any:
    """The setting that names a court."""
    return Field(
        default=None,
        description=f"Sport whose rules apply and, with its corners, metres and net crossings: {', '.join(COURTS)}.",
        json_schema_extra={"enum": [*COURTS]},
    )


def check_court(court: str | None, corners: str | None) -> None:
    """ValueError for a court that nobody knows, and for corners of none."""
    if court is not None and court not in COURTS:
        raise ValueError(f"no court {court!r}; there are: {', '.join(COURTS)}")
    if corners is not None and court is None:
        raise ValueError("corners need a court: --court badminton corners.json")


def read_court(court: str | None, corners: str | None) -> Court | None:
    """The court that was named; None if none was. ConfigError if the file says something else."""
    return None if court is None else Court(COURTS[court], None if corners is None else CourtView.read(corners))


class EventsConfig(VerbConfig):
    """Find hits, bounces, net crossings, rallies and ball speeds in rows."""

    verb: ClassVar[str] = "events"

    annotations: Place
    """An output of annotate, a dataset, or a .parquet, .csv or .jsonl file of rows."""
    corners: Place | None = None
    """JSON file with the picture size and the corners of the court in it, for the one camera that filmed all rows; see
    docs/events.md."""
    output: Place
    """Folder or s3:// prefix for events.parquet and flights.parquet."""
    court: str | None = court_field()
    threshold: float = Field(default=THRESHOLD, gt=0, lt=1)
    """Minimum likelihood of a hit or a bounce."""
    fps: PositiveFloat | None = None
    """Frames per second, if the rows have no times."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        check_court(self.court, self.corners)
        return self


class EventsReport(Config):
    """The events found."""

    rallies: int
    events: dict[str, int]
    """How many of each kind."""
    rows: int
    """Rows that were read."""
    written: tuple[str, ...]
    """URIs."""


def events(config: EventsConfig) -> EventsReport:
    """Write both tables. ConfigError if rows have no times, or the corners are of no court."""
    rows = read_rows(config.annotations)
    court = read_court(config.court, config.corners)
    found = analyse(rows, court=court, fps=config.fps, threshold=config.threshold)
    store = open_store(config.output)
    for name, table in ((FLIGHTS_NAME, found.flights), (EVENTS_NAME, found.events)):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        store.put(name, sink.getvalue())
    counts = Counter(found.events["event"].to_pylist())
    telemetry.get_logger().info("events written", output=store.uri, **counts)
    return EventsReport(
        rallies=counts["rally_start"],
        events=dict(counts),
        rows=rows.num_rows,
        written=(store.uri_of(EVENTS_NAME), store.uri_of(FLIGHTS_NAME)),
    )

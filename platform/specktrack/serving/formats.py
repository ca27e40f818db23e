"""Rows in the format that a client accepts, written table by table as they come."""

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from specktrack.datasets import exports
from specktrack.schema import ROWS
from specktrack.serving.problems import Refusal

JSON, NDJSON, ARROW = "application/json", "application/x-ndjson", "application/vnd.apache.arrow.stream"
Tables = Iterable[pa.Table]
Facts = Mapping[str, Any]


def to_json(tables: Tables, facts: Facts) -> Iterator[bytes]:
    """``{"video": ..., "fps": ..., "rows": [{"frame": ...}, ...]}``; absent positions are null.

    Rows name their video where the facts do not.
    """
    yield json.dumps({**facts, "rows": []}, allow_nan=False, separators=(",", ":")).encode()[:-2]
    comma = b""
    for table in tables:
        if rows := plain_rows(table) if "video" in facts else table.to_pylist():
            yield comma + json.dumps(rows, allow_nan=False, separators=(",", ":")).encode()[1:-1]
            comma = b","
    yield b"]}"


def to_ndjson(tables: Tables, _: Facts) -> Iterator[bytes]:
    """A JSON object per row and line, with the video's name."""
    for table in tables:
        yield lines(table.to_pylist())


def to_csv(tables: Tables, _: Facts) -> Iterator[bytes]:
    """A header and a line per row; absent positions are empty, and no name is a formula."""
    yield exports.to_csv(ROWS.empty_table())
    for table in tables:
        yield exports.to_csv(table).partition(b"\n")[2]


def to_parquet(tables: Tables, facts: Facts) -> Iterator[bytes]:
    """A Parquet file with the clip's facts as metadata."""
    sink, schema = _Pipe(), _described(facts)
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.cast(schema))
            yield sink.take()
    yield sink.take()


def to_arrow(tables: Tables, facts: Facts) -> Iterator[bytes]:
    """An Arrow IPC stream with the clip's facts as metadata."""
    stream = ArrowStream(facts)
    for table in tables:
        yield stream.more(table)
    yield stream.end()


class ArrowStream:
    """An Arrow IPC stream as its bytes come."""

    def __init__(self, facts: Facts) -> None:
        self._sink, self._schema = _Pipe(), _described(facts)
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), self._schema)

    def more(self, rows: pa.Table) -> bytes:
        """The bytes of more rows, and of the schema before the first."""
        self._writer.write_table(rows.unify_dictionaries().cast(self._schema))
        return self._sink.take()

    def end(self) -> bytes:
        """The end of the stream, which shows that it is complete."""
        self._writer.close()
        return self._sink.take()


FORMATS: Mapping[str, Callable[[Tables, Facts], Iterator[bytes]]] = {
    JSON: to_json,
    "text/csv": to_csv,
    "application/vnd.apache.parquet": to_parquet,
    ARROW: to_arrow,
    NDJSON: to_ndjson,
}
STREAMED = (NDJSON, ARROW)
"""Formats in which a clip's rows are told as they become final."""


def lines(objects: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON objects, one a line."""
    return b"".join(json.dumps(each, allow_nan=False, separators=(",", ":")).encode() + b"\n" for each in objects)


def choose(accept: str | None) -> str:
    """The media type of FORMATS that an ``Accept`` header wants most; Refusal(406) if it wants none of them."""
    wishes, ranked = _wishes(accept or "*/*"), []
    for media_type in FORMATS:
        said = [(stars, place, q) for place, (stars, pattern, q) in enumerate(wishes) if _matches(pattern, media_type)]
        if said:
            stars, place, quality = min(said)  # of several ranges the most specific one counts: RFC 9110, 12.5.1
            ranked.append((-quality, stars, place, media_type))
    wanted = [rank for rank in ranked if rank[0] < 0]
    if not wanted:
        raise Refusal(
            HTTPStatus.NOT_ACCEPTABLE, "no such format", accept, remedy=f"accept one of: {', '.join(FORMATS)}"
        )
    return min(wanted, key=lambda rank: rank[:3])[3]


def plain_rows(rows: pa.Table) -> list[dict[str, Any]]:
    """Rows as mappings without the video, which is the same in all."""
    return rows.drop_columns("video").to_pylist()


def _wishes(accept: str) -> list[tuple[int, str, float]]:
    """(stars, pattern, quality) of each range in an Accept header; what cannot be read is left out."""
    wishes = []
    for part in accept.split(","):
        pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = math.nan
        if math.isfinite(quality):
            wishes.append((pattern.count("*"), pattern, min(max(quality, 0.0), 1.0)))
    return wishes


def _matches(pattern: str, media_type: str) -> bool:
    return pattern in ("*/*", media_type) or (pattern.endswith("/*") and media_type.startswith(pattern[:-1]))


def _described(facts: Facts) -> pa.Schema:
    return ROWS.with_metadata({key: str(value) for key, value in facts.items()})


class _Pipe(io.RawIOBase):
    """The bytes written to a file-like object since the last call."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._written += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

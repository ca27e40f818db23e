"""Rows in the format that a client accepts: JSON, CSV, Parquet or an Arrow stream."""

import io
import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from specktrack.datasets import exports
from specktrack.serving.problems import Refusal

JSON = "application/json"


def to_json(rows: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """``{"video": ..., "fps": ..., "rows": [{"frame": ...}, ...]}``; absent positions are null."""
    return json.dumps({**facts, "rows": plain_rows(rows)}, allow_nan=False, separators=(",", ":")).encode()


def to_csv(rows: pa.Table, _: Mapping[str, Any]) -> bytes:
    """A header and a line per row; absent positions are empty, and no name is a formula."""
    return exports.to_csv(rows)


def to_parquet(rows: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """A Parquet file with the clip's facts as metadata."""
    sink = io.BytesIO()
    pq.write_table(_described(rows, facts), sink, compression="zstd")
    return sink.getvalue()


def to_arrow(rows: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """An Arrow IPC stream with the clip's facts as metadata."""
    sink = io.BytesIO()
    described = _described(rows.unify_dictionaries(), facts)
    with pa.ipc.new_stream(sink, described.schema) as writer:
        writer.write_table(described)
    return sink.getvalue()


FORMATS: Mapping[str, Callable[[pa.Table, Mapping[str, Any]], bytes]] = {
    JSON: to_json,
    "text/csv": to_csv,
    "application/vnd.apache.parquet": to_parquet,
    "application/vnd.apache.arrow.stream": to_arrow,
}


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


def _described(rows: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    return rows.replace_schema_metadata({key: str(value) for key, value in facts.items()})

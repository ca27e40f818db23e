"""Metrics for Prometheus. Ray exports them on every node as ``ray_specktrack_...``; GET /metrics collects them.

Serve itself exports queue depths, batch sizes, latencies and replicas as ``ray_serve_...``.
"""

import re
from collections.abc import Iterable

from ray.util.metrics import Counter, Gauge, Histogram

LATENCY_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]
KEPT = ("ray_specktrack_", "ray_serve_")


class RequestMetrics:
    """Of the ingress."""

    def __init__(self) -> None:
        self.requests = Counter("specktrack_requests", "Answers by route and status.", ("route", "status"))
        self.seconds = Histogram("specktrack_request_seconds", "From request to answer.", LATENCY_S, ("route",))


class FollowMetrics:
    """Of every deployment that follows: clips, streams, sessions and batches."""

    def __init__(self) -> None:
        self.frames = Counter("specktrack_frames", "Frames followed.", ("model",))
        self.quarantined = Counter("specktrack_quarantined", "Clips and pictures that could not be used.", ("reason",))


class TrackingMetrics(FollowMetrics):
    """Of a deployment with networks."""

    def __init__(self) -> None:
        super().__init__()
        self.clip_seconds = Histogram(
            "specktrack_clip_seconds", "From a clip's bytes to its rows.", LATENCY_S, ("model",)
        )
        self.batch_windows = Histogram(
            "specktrack_batch_windows", "Windows in one forward pass.", [1, 2, 4, 8, 16, 32], ("model",)
        )
        self.decode_errors = Counter("specktrack_decode_errors", "Errors that decoders logged or raised.")
        self.sessions = Gauge("specktrack_sessions", "Streams and sessions that are open.")


def merged(pages: Iterable[str]) -> str:
    """Our and Serve's metrics out of several nodes' pages in Prometheus' text format, each family once."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for page in pages:
        family = ""
        for line in page.splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                if family.startswith(KEPT) and line not in heads.setdefault(family, []):
                    heads[family].append(line)
            elif line.startswith(KEPT):
                name = re.split(r"[{ ]", line, maxsplit=1)[0]
                samples.setdefault(family if name.startswith(family) and family else name, []).append(line)
    lines = [line for family in samples for line in [*heads.get(family, []), *samples[family]]]
    return "\n".join([*lines, ""])

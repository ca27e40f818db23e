"""Whether a server can answer, and what it counts."""

import asyncio
import contextlib
import time
import urllib.request
from collections import deque
from http.client import HTTPException
from math import ceil
from statistics import median

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from specktrack import telemetry
from specktrack.errors import SpecktrackError
from specktrack.serving.metrics import merged
from specktrack.serving.problems import RETRY_AFTER_S, cause_of

APPLICATION = "specktrack"
STATUS_AGE_S = 1.0
ANSWERS_MEASURED = 32
MOST_RETRY_AFTER_S = 60
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens what is on this cluster, where the proxy that an environment names does not lead."""

log = telemetry.get_logger()


class Health:
    """Whether the first model is loaded, and replicas run."""

    def __init__(self) -> None:
        self._warm: BaseException | None = RuntimeError("the models are being loaded")
        self._status: tuple[float, str] = (0.0, "")

    async def warm_up(self, handle: DeploymentHandle, model: str) -> None:
        """Load a model, so that readiness means that a clip can be answered."""
        while self._warm is not None:
            try:
                await handle.options(multiplexed_model_id=model).warm.remote(model)
                self._warm = None
            except (RayError, RayServeException, SpecktrackError) as error:
                log.warning("not ready", error=str(cause_of(error)))
                self._warm = error
                await asyncio.sleep(1)

    async def not_ready(self) -> str:
        """Why the server cannot answer now; empty if it can."""
        if self._warm is not None:
            return str(cause_of(self._warm))
        checked_s, found = self._status
        if time.monotonic() - checked_s > STATUS_AGE_S:
            found = await asyncio.to_thread(_missing_replicas)
            self._status = (time.monotonic(), found)
        return found


class Pace:
    """How long the last answers took, waiting included."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=ANSWERS_MEASURED)

    def add(self, seconds: float) -> None:
        """One more answer."""
        self._seconds.append(seconds)

    @property
    def retry_after_s(self) -> int:
        """Seconds in which, at this pace, a quarter of what waits is answered: then there is room for who comes."""
        measured = median(self._seconds) / 4 if self._seconds else 0
        return min(max(RETRY_AFTER_S, ceil(measured)), MOST_RETRY_AFTER_S)


async def prometheus() -> str:
    """Our and Serve's metrics from all nodes."""
    return merged(await asyncio.to_thread(_pages))


def url_of(host: str, port: int) -> str:
    """Where a host, which may be an IPv6 address, answers."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _missing_replicas() -> str:
    """The online deployments of which no replica runs."""
    application = serve.status().applications.get(APPLICATION)
    if application is None:
        return ""
    missing = [
        name
        for name, deployment in application.deployments.items()
        if name in ("Windowed", "Template") and not deployment.replica_states.get("RUNNING")
    ]
    return f"no replica runs of {', '.join(missing)}" if missing else ""


def _pages() -> list[str]:
    """The metrics page of every node's agent."""
    pages = []
    for node in ray.nodes():
        if node["Alive"]:
            url = f"{url_of(node['NodeManagerAddress'], node['MetricsExportPort'])}/metrics"
            with (
                contextlib.suppress(OSError, HTTPException, UnicodeDecodeError),
                DIRECT.open(url, timeout=2) as page,
            ):
                pages.append(page.read().decode())
    return pages

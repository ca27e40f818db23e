"""The ingress deployment: takes requests in, hands the work to the deployments that do it, watches over batches."""

import asyncio
import contextlib
import mmap
import time
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from specktrack import telemetry
from specktrack.errors import SpecktrackError
from specktrack.schema import Prompt
from specktrack.serving.access import Keys
from specktrack.serving.answers import Asked
from specktrack.serving.batch_records import Batch, BatchRecords, BatchRequest, BatchState, checked_request
from specktrack.serving.catalog import ServedModel
from specktrack.serving.config import ServeConfig, check_public_bind
from specktrack.serving.fetch import fetch, too_large
from specktrack.serving.metrics import RequestMetrics, merged
from specktrack.serving.places import allowed_place
from specktrack.serving.problems import Refusal, cause_of
from specktrack.serving.routing import home_of
from specktrack.storage import open_binary, stat
from specktrack.tracking.following import Reading

APPLICATION = "specktrack"
CHUNK_BYTES = 1 << 20
FETCHES = 64
"""Clips fetched at a time, in threads of their own: Serve gives a replica five, which a slow host would hold."""
LOOK_FOR_BATCHES_S = 10.0
STATUS_AGE_S = 1.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens what is on this cluster, where the proxy that an environment names does not lead."""

log = telemetry.get_logger()


class Gateway:
    """What the routes call."""

    def __init__(self, config: ServeConfig, models: tuple[ServedModel, ...], **handles: DeploymentHandle) -> None:
        check_public_bind(_get_global_client().http_config.host or "127.0.0.1", config)
        self.config, self.models = config, {model.name: model for model in models}
        self.boxed = tuple(model.name for model in models if model.takes_prompt)
        self.keys = Keys.read(config.access.api_keys_file)
        self.metrics = RequestMetrics()
        self.local_only = config.access.api_keys_file is None and not config.trusted
        self._handles = handles
        self._fetches = ThreadPoolExecutor(FETCHES, "fetch")
        self._records = BatchRecords(config.access.outputs)
        self._dispatched: dict[str, asyncio.Task[None]] = {}
        self._warm: BaseException | None = RuntimeError("the models are being loaded")
        self._status: tuple[float, str] = (0.0, "")

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Beside requests: load the first model, and take up batches that nobody is at work on."""
        tasks = [asyncio.create_task(self._warm_up())]
        if self.config.access.outputs:
            tasks.append(asyncio.create_task(self._take_up_batches()))
        yield
        for task in [*tasks, *self._dispatched.values()]:
            task.cancel()

    def model(self, name: str | None) -> ServedModel:
        """The model that a request names, or the first; Refusal(404) if it is not served."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such model", name, remedy=f"there are: {', '.join(self.models)}")
        return self.models[name]

    def boxed_model(self, name: str | None) -> ServedModel:
        """The model of a session with a box, or the first that takes one; Refusal(422) for a model that takes none."""
        if name is None and self.boxed:
            name = self.boxed[0]
        model = self.model(name)
        if model.name not in self.boxed:
            what = "a session with a box needs a model that takes one"
            remedy = (
                f"there are: {', '.join(self.boxed) or 'none here'}; clips go to /v1/annotate, frames to /v1/stream"
            )
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, model.name, remedy=remedy)
        return model

    async def annotate(self, clip: Path, video: str, asked: Asked) -> tuple[pa.Table, dict[str, Any]]:
        """Rows of a clip that lies on this node's disk, and facts about it."""
        model, reading = self.model(asked.model), self.config.reading(asked)
        if not clip.stat().st_size:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "the clip has no bytes", video)
        if model.takes_prompt:
            what = "this model follows an object that a box names"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, model.name, remedy="open a session with it")
        data = _bytes_of(clip)  # not in a thread: it waits for no disk, and a thread costs a millisecond
        handle = self._handles["windowed"].options(multiplexed_model_id=model.name)
        async with asyncio.timeout(self.config.limits.request_s):
            return await _answer(handle.annotate.remote(data, model.name, video, reading))

    async def fetch_clip(self, uri: str, path: Path) -> None:
        """Bring the clip behind a URI that a caller names to this node's disk; TimeoutError if that takes too long."""
        if uri.startswith(("s3://", "file://")) or "://" not in uri:
            work = partial(self._copy, allowed_place(uri, self.config.access.sources, "sources"), path)
        else:
            work = partial(fetch, uri, path, self.config.access, self.config.limits)
        async with asyncio.timeout(self.config.limits.upload_s):  # whatever the host does in between
            await asyncio.get_running_loop().run_in_executor(self._fetches, work)

    async def open(
        self, model: ServedModel, prompt: tuple[Prompt, ...] | None, fps: float, asked: Reading | None = None
    ) -> str:
        """A new session's id."""
        reading = self.config.reading(asked or Reading())
        name = deployment_of(model)
        handle = self._handles[name].options(multiplexed_model_id=model.name)
        return f"{name[0]}.{await _answer(handle.open.remote(model.name, prompt, fps, reading))}"

    async def push(self, key: str, pictures: list[bytes], pts_s: list[float] | None = None) -> pa.Table:
        """Rows of a session that are final after more pictures."""
        handle, inner = self._home(key)
        return await _answer(handle.push.remote(inner, pictures, pts_s))

    async def finish(self, key: str) -> pa.Table:
        """The remaining rows of a session, which is closed."""
        handle, inner = self._home(key)
        return await _answer(handle.finish.remote(inner))

    async def drop(self, key: str) -> None:
        """Close a session whose rows nobody waits for."""
        handle, inner = self._home(key)
        with contextlib.suppress(RayError, RayServeException, SpecktrackError):
            await handle.drop.remote(inner)

    async def start_batch(self, request: BatchRequest) -> Batch:
        """Record a batch and have it begun."""
        model, reading = self.model(request.model), self.config.reading(request)
        if model.takes_prompt:
            what, remedy = "a batch needs a model that takes no box", "open a session with it"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, model.name, remedy=remedy)
        sources, output = await asyncio.to_thread(checked_request, request, self.config)
        batch = await asyncio.to_thread(self._records.create, sources, output, model.name, reading)
        log.info("batch accepted", batch=batch.id, sources=len(sources), output=output)
        self._dispatch(batch.id)
        return batch

    async def batch(self, key: str) -> Batch:
        """A batch's record; Refusal(404) if there is none."""
        found = await asyncio.to_thread(self._records.get, key)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such batch", key)
        if found.state is BatchState.QUEUED and await asyncio.to_thread(self._records.is_to_stop, found):
            return found.model_copy(update={"state": BatchState.CANCELLED})  # whoever begins it will find the mark
        return found

    async def cancel_batch(self, key: str) -> Batch:
        """Stop a batch; what it completed stays."""
        batch = await self.batch(key)
        if not batch.state.is_final:
            await asyncio.to_thread(self._records.ask_to_stop, batch)
        return await self.batch(key)

    async def not_ready(self) -> str:
        """Why the server cannot answer now; empty if it can."""
        if self._warm is not None:
            return str(cause_of(self._warm))
        checked_s, found = self._status
        if time.monotonic() - checked_s > STATUS_AGE_S:
            found = await asyncio.to_thread(_missing_replicas)
            self._status = (time.monotonic(), found)
        return found

    async def prometheus(self) -> str:
        """Our and Serve's metrics from all nodes."""
        return merged(await asyncio.to_thread(_pages))

    def _home(self, key: str) -> tuple[DeploymentHandle, str]:
        family, _, inner = key.partition(".")
        name = {"w": "windowed", "t": "template"}.get(family, "")
        if name not in self._handles or not home_of(inner):
            raise Refusal(HTTPStatus.NOT_FOUND, "no such session", key)
        return self._handles[name].options(session_id=home_of(inner)), inner

    def _copy(self, uri: str, path: Path) -> None:
        ref = stat(uri)
        if ref.size_bytes > self.config.limits.body_bytes:
            raise too_large(self.config.limits.body_bytes)
        with open_binary(ref) as source, path.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)

    async def _warm_up(self) -> None:
        """Load the first model, so that readiness means that a clip can be answered."""
        first = next(iter(self.models.values()))
        handle = self._handles[deployment_of(first)]
        while self._warm is not None:
            try:
                await handle.options(multiplexed_model_id=first.name).warm.remote(first.name)
                self._warm = None
            except (RayError, RayServeException, SpecktrackError) as error:
                log.warning("not ready", error=str(cause_of(error)))
                self._warm = error
                await asyncio.sleep(1)

    async def _take_up_batches(self) -> None:
        while True:
            try:
                for key in tuple(self._dispatched):
                    await asyncio.to_thread(self._records.wait_for, key)
                for key in await asyncio.to_thread(self._records.forsaken):
                    await asyncio.to_thread(self._records.wait_for, key)
                    self._dispatch(key)
            except Exception:  # at the actor's boundary: a task that ended would be missed by nobody
                log.exception("cannot look for batches")
            await asyncio.sleep(LOOK_FOR_BATCHES_S)

    def _dispatch(self, key: str) -> None:
        if key not in self._dispatched:
            task = self._dispatched[key] = asyncio.create_task(self._run_batch(key))
            task.add_done_callback(lambda _: self._dispatched.pop(key, None))

    async def _run_batch(self, key: str) -> None:
        try:
            await self._handles["batches"].run.remote(key)
        except (
            RayError,
            RayServeException,
            SpecktrackError,
        ) as error:  # its replica died: taken up again when it is missed
            log.warning("batch interrupted", batch=key, error=str(cause_of(error)))


def deployment_of(model: ServedModel) -> str:
    """The handle of the deployment that holds a model."""
    return "template" if model.takes_prompt else "windowed"


async def _answer(response: DeploymentResponse) -> Any:
    """What a replica answers; Refusal(503) where none has room: Serve's own answer to that names no time to wait."""
    try:
        return await response
    except (BackPressureError, DeploymentUnavailableError):
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the server is busy", remedy="try again shortly") from None


def _bytes_of(path: Path) -> np.ndarray | bytes:
    """A small clip goes with the call; a larger one is mapped, and copied once, into the object store."""
    if path.stat().st_size < CHUNK_BYTES:
        return path.read_bytes()
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


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


def url_of(host: str, port: int) -> str:
    """Where a host, which may be an IPv6 address, answers."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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

"""The ingress: accepts requests and passes the work to the deployments that do it."""

import asyncio
import contextlib
import mmap
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import FastAPI
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from specktrack.annotating.prompts import parse_prompt
from specktrack.errors import SpecktrackError
from specktrack.schema import Prompt
from specktrack.serving.access import Keys
from specktrack.serving.answers import Batch, BatchAsked, ClipAsked, Wanted
from specktrack.serving.batch_control import BatchControl
from specktrack.serving.catalog import ServedModel
from specktrack.serving.config import ServeConfig, check_public_bind
from specktrack.serving.fetch import camera, fetch, too_large
from specktrack.serving.health import Health, Pace
from specktrack.serving.metrics import RequestMetrics
from specktrack.serving.places import allowed_place
from specktrack.serving.problems import Refusal
from specktrack.serving.routing import home_of
from specktrack.storage import open_binary, stat
from specktrack.tracking.following import Reading
from specktrack.tracking.prompts import numbered
from specktrack.video.live import Camera

CHUNK_BYTES = 1 << 20
FETCHES = 64
"""Clips fetched at a time, in threads of their own: Serve gives a replica five, which a slow host would hold."""


class Gateway:
    """The interface that the routes call."""

    def __init__(self, config: ServeConfig, models: tuple[ServedModel, ...], **handles: DeploymentHandle) -> None:
        check_public_bind(_get_global_client().http_config.host or "127.0.0.1", config)
        self.config, self.models = config, {model.name: model for model in models}
        self.boxed = tuple(model.name for model in models if model.takes_prompt)
        self.keys = Keys.read(config.access.api_keys_file)
        self.metrics, self.health, self.pace = RequestMetrics(), Health(), Pace()
        self.local_only = config.access.api_keys_file is None and not config.trusted
        self.batches = BatchControl(config, handles["batches"])
        self._handles = handles
        self._fetches = ThreadPoolExecutor(FETCHES, "fetch")
        self.cameras = ThreadPoolExecutor(config.limits.sessions, "camera")

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Beside requests: load the first model, and take up batches that nobody is working on."""
        first = next(iter(self.models.values()))
        tasks = [asyncio.create_task(self.health.warm_up(self._handles[deployment_of(first)], first.name))]
        if self.batches.is_on:
            tasks.append(asyncio.create_task(self.batches.watch()))
        yield
        for task in tasks:
            task.cancel()
        self.batches.close()

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
            what = "a session with a box needs a model that takes a box"
            remedy = (
                f"there are: {', '.join(self.boxed) or 'none here'}; clips go to /v1/annotate, frames to /v1/stream"
            )
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, model.name, remedy=remedy)
        return model

    async def annotate(self, clip: Path, video: str, asked: ClipAsked) -> tuple[pa.Table, dict[str, Any]]:
        """Rows of a clip that lies on this node's disk, and facts about it; LongerThanAllowed as soon as that shows."""
        handle, order = self._clip(clip, video, asked)
        started = time.monotonic()
        async with asyncio.timeout(self.config.limits.request_s):
            rows, facts = await self._answer(handle.annotate.remote(*order))
        self.pace.add(time.monotonic() - started)
        return rows, facts

    async def follow_clip(self, clip: Path, video: str, asked: ClipAsked) -> AsyncGenerator[dict[str, Any] | pa.Table]:
        """The same as it becomes known: facts, rows that are final, and at last the decoding errors."""
        handle, order = self._clip(clip, video, asked)
        answers = handle.options(stream=True).follow_clip.remote(*order)
        try:
            while True:
                try:
                    yield await self._answer(anext(answers))
                except StopAsyncIteration:
                    return
        finally:
            answers.cancel()

    def _clip(self, clip: Path, video: str, asked: ClipAsked) -> tuple[DeploymentHandle, tuple[Any, ...]]:
        model, reading = self.model(asked.model), self.config.reading(asked)
        if not clip.stat().st_size:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "the clip has no bytes", video)
        wanted = Wanted(asked.start, asked.stop, numbered([parse_prompt(text) for text in asked.prompt]))
        if model.takes_prompt and not wanted.prompts:
            what, remedy = "this model needs a box around the object", "give prompt=frame,cx,cy,w,h, or open a session"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, model.name, remedy=remedy)
        data = _bytes_of(clip)  # not in a thread: it waits for no disk, and a thread costs a millisecond
        handle = self._handles[deployment_of(model)].options(multiplexed_model_id=model.name)
        return handle, (data, model.name, video, reading, wanted)

    async def fetch_clip(self, uri: str, path: Path) -> None:
        """Bring the clip behind a URI that a caller names to this node's disk; TimeoutError if that takes too long."""
        if is_fetched(uri):
            work = partial(fetch, uri, path, self.config.access, self.config.limits)
        else:
            work = partial(self._copy, allowed_place(uri, self.config.access.sources, "sources"), path)
        async with asyncio.timeout(self.config.limits.upload_s):  # whatever the host does in between
            await asyncio.get_running_loop().run_in_executor(self._fetches, work)

    async def camera(self, place: str) -> Camera:
        """A camera that a stream may watch; Refusal(403) for any other."""
        target = await asyncio.get_running_loop().run_in_executor(self._fetches, camera, place, self.config.access)
        return Camera(place, target)

    async def open(
        self, model: ServedModel, prompt: tuple[Prompt, ...] | None, fps: float, asked: Reading | None = None
    ) -> str:
        """A new session's id."""
        reading = self.config.reading(asked or Reading())
        name = deployment_of(model)
        handle = self._handles[name].options(multiplexed_model_id=model.name)
        return f"{name[0]}.{await self._answer(handle.open.remote(model.name, prompt, fps, reading))}"

    async def push(self, key: str, pictures: list[bytes], pts_s: list[float] | None = None) -> pa.Table:
        """Rows of a session that are final after more pictures."""
        handle, inner = self._home(key)
        return await self._answer(handle.push.remote(inner, pictures, pts_s))

    async def follow(
        self, key: str, pictures: list[bytes], pts_s: list[float] | None, numbers: list[int], *, provisional: bool
    ) -> tuple[pa.Table, pa.Table | None]:
        """Rows of a stream that are final after more pictures, and those that wait if they are asked for."""
        handle, inner = self._home(key)
        return await self._answer(handle.follow.remote(inner, pictures, pts_s, numbers, provisional=provisional))

    async def finish(self, key: str) -> pa.Table:
        """The remaining rows of a session, which is closed."""
        handle, inner = self._home(key)
        return await self._answer(handle.finish.remote(inner))

    async def drop(self, key: str) -> None:
        """Close a session whose rows nobody waits for."""
        handle, inner = self._home(key)
        with contextlib.suppress(RayError, RayServeException, SpecktrackError):
            await handle.drop.remote(inner)

    async def start_batch(self, asked: BatchAsked, **what: Any) -> Batch:
        """See BatchControl.start."""
        return await self.batches.start(asked, self.model(asked.model), self.config.reading(asked), **what)

    async def _answer(self, response: Awaitable[Any]) -> Any:
        """A replica's answer; Refusal(503) if none has room, with a time to wait, which Serve does not give."""
        try:
            return await response
        except (BackPressureError, DeploymentUnavailableError):
            remedy, after_s = "try again shortly", self.pace.retry_after_s
            what = "the server is busy"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, what, remedy=remedy, retry_after_s=after_s) from None

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


def is_fetched(uri: str) -> bool:
    """Whether a URI is one of another host, and no place of the server's storage."""
    return "://" in uri and not uri.startswith(("s3://", "file://"))


def deployment_of(model: ServedModel) -> str:
    """The handle of the deployment that holds a model."""
    return "template" if model.takes_prompt else "windowed"


def _bytes_of(path: Path) -> np.ndarray | bytes:
    """A small clip goes with the call; a larger one is mapped, and copied once, into the object store."""
    if path.stat().st_size < CHUNK_BYTES:
        return path.read_bytes()
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

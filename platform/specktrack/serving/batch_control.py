"""Batches in the ingress: accepted, started in their deployment, watched and reported."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path

import pyarrow as pa
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from specktrack import telemetry
from specktrack.config import sha_of
from specktrack.errors import SpecktrackError
from specktrack.ledger import overlay_places, scan_annotations
from specktrack.serving import webhooks
from specktrack.serving.answers import Batch, BatchAsked, Batches, BatchState
from specktrack.serving.batch_records import UPLOADS, BatchRecord, BatchRecords, new_id
from specktrack.serving.catalog import ServedModel
from specktrack.serving.config import ServeConfig
from specktrack.serving.places import allowed_place, name_below
from specktrack.serving.problems import Refusal, cause_of
from specktrack.storage import expand_sources, open_store
from specktrack.tracking.following import Reading

LOOK_FOR_BATCHES_S = 10.0

log = telemetry.get_logger()


class BatchControl:
    """The batches of a server's outputs."""

    def __init__(self, config: ServeConfig, handle: DeploymentHandle) -> None:
        self._access, self._handle = config.access, handle
        self._records = BatchRecords(config.access.outputs)
        self._dispatched: dict[str, asyncio.Task[None]] = {}

    @property
    def is_on(self) -> bool:
        """Whether the server has outputs."""
        return bool(self._access.outputs)

    def close(self) -> None:
        """Wait for no run any more; they go on."""
        for task in self._dispatched.values():
            task.cancel()

    async def start(
        self,
        asked: BatchAsked,
        model: ServedModel,
        reading: Reading,
        *,
        sources: Sequence[str] = (),
        clips: Sequence[tuple[str, Path]] = (),
        name: str | None = None,
    ) -> Batch:
        """Record a batch of places or of clips (name, file on this node's disk), and have it begun.

        The same ``name`` (Idempotency-Key) is the same batch. ConfigError for sources that do not exist, Refusal for
        those that are not allowed, and for a name that stands for another request.
        """
        if model.takes_prompt:
            what, remedy = "a batch needs a model that works without a box", "open a session with it"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, model.name, remedy=remedy)
        batch = await asyncio.to_thread(self._accept, asked, model.name, reading, sources, clips, name)
        if not batch.state.is_final:
            self._dispatch(batch.id)
        return batch.public

    async def batch(self, key: str) -> Batch:
        """A batch; Refusal(404) if there is none."""
        return (await self._known(key)).public

    async def cancel(self, key: str) -> Batch:
        """Stop a batch; what it completed stays."""
        batch = await self._known(key)
        if not batch.state.is_final:
            await asyncio.to_thread(self._records.ask_to_stop, batch)
        return await self.batch(key)

    async def newest(self, after: str | None, most: int) -> Batches:
        """A page of the list."""
        found, following = await asyncio.to_thread(self._records.newest, after=after, most=most)
        return Batches(batches=[await asyncio.to_thread(self._seen, each) for each in found], next=following)

    async def rows(self, key: str) -> Iterator[pa.Table]:
        """The rows that a batch has so far, a clip at a time; Refusal(409) before there are any."""
        batch = await self._known(key)
        return await asyncio.to_thread(self._rows, batch)

    async def overlay(self, key: str, video: str | None) -> str:
        """The URI of a drawn video of a batch; Refusal(404) if there is none."""
        batch = await self._known(key)
        return await asyncio.to_thread(self._overlay, batch, video)

    async def watch(self) -> None:
        """Forever: have batches begun that nobody is working on."""
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

    def _accept(
        self,
        asked: BatchAsked,
        model: str,
        reading: Reading,
        sources: Sequence[str],
        clips: Sequence[tuple[str, Path]],
        name: str | None,
    ) -> BatchRecord:
        names = [*sources, *(clip for clip, _ in clips)]
        sha = sha_of([asked.model_dump(mode="json", exclude_unset=True), names])
        outputs = self._access.outputs
        if not outputs:
            raise Refusal(HTTPStatus.FORBIDDEN, "this server has no outputs set up", remedy="ask its operator")
        key = new_id() if name is None else self._records.id_of(hashlib.sha256(name.encode()).hexdigest())
        if name is not None and (found := self._records.get(key)) is not None:
            if found.asked_sha != sha:
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "this Idempotency-Key stands for another request")
            return found
        uris = [allowed_place(source, self._access.sources, "sources") for source in sources]
        if uris:
            expand_sources(uris)  # what is not there is refused at once
        output = allowed_place(asked.output or key, outputs, "outputs")
        if asked.webhook is not None:
            webhooks.checked(asked.webhook, self._access)
        store = open_store(f"{outputs[0].rstrip('/')}/{UPLOADS}/{key}")
        for number, (clip, path) in enumerate(clips):
            place = clip if len(clips) == 1 else f"{number}/{clip}"
            store.put_file(place, path)
            uris.append(store.uri_of(place))
        log.info("batch accepted", batch=key, sources=len(names), output=output)
        return self._records.create(
            uris, output, model, reading, key=key, sources=tuple(names), output=asked.output or key,
            overlay=asked.overlay, webhook=asked.webhook, asked_sha=sha,
        )  # fmt: skip

    async def _known(self, key: str) -> BatchRecord:
        found = await asyncio.to_thread(self._records.get, key)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such batch", key)
        return await asyncio.to_thread(self._seen, found)

    def _seen(self, batch: BatchRecord) -> BatchRecord:
        """With what is known beside the record: whoever is working on it will find the mark."""
        if batch.state.is_final or not self._records.is_to_stop(batch):
            return batch
        queued = batch.state is BatchState.QUEUED
        return batch.model_copy(update={"state": BatchState.CANCELLED if queued else BatchState.CANCELLING})

    def _rows(self, batch: BatchRecord) -> Iterator[pa.Table]:
        videos = {video.uri for video in expand_sources(batch.source_uris)}
        if not open_store(batch.output_uri).exists("run.json") or not batch.clips:
            what, remedy = "this batch has no rows yet", "ask again when it is done"
            raise Refusal(HTTPStatus.CONFLICT, what, batch.state, remedy=batch.error or remedy)
        return (self._named(batch, table) for table in scan_annotations(batch.output_uri, videos=videos))

    def _named(self, batch: BatchRecord, rows: pa.Table) -> pa.Table:
        """Rows of one video, by the name that the outside knows."""
        if not rows.num_rows:
            return rows
        name = self._name(batch, rows["video"][0].as_py())
        return rows.set_column(0, rows.schema.field("video"), pa.array([name] * rows.num_rows))

    def _name(self, batch: BatchRecord, uri: str) -> str:
        uploads = [f"{root.rstrip('/')}/{UPLOADS}/{batch.id}" for root in self._access.outputs]
        return name_below(uri, [*uploads, *self._access.sources])

    def _overlay(self, batch: BatchRecord, video: str | None) -> str:
        places = {
            self._name(batch, ref.uri): place
            for ref, place in overlay_places(expand_sources(batch.source_uris)).items()
        }
        name = next(iter(places)) if video is None and len(places) == 1 else video
        store = open_store(batch.output_uri)
        if name is None or name not in places:
            raise Refusal(HTTPStatus.NOT_FOUND, "no such video", name, remedy=f"?video= is one of: {', '.join(places)}")
        if not store.exists(places[name]):
            remedy = "wait until the batch is done" if batch.overlay else "request it with the batch: overlay=true"
            raise Refusal(HTTPStatus.NOT_FOUND, "this video is not drawn", name, remedy=remedy)
        return store.uri_of(places[name])

    def _dispatch(self, key: str) -> None:
        if key not in self._dispatched:
            task = self._dispatched[key] = asyncio.create_task(self._run(key))
            task.add_done_callback(lambda _: self._dispatched.pop(key, None))

    async def _run(self, key: str) -> None:
        try:
            await self._handle.run.remote(key)
        except (RayError, RayServeException, SpecktrackError) as error:  # taken up again when it is missed
            log.warning("batch interrupted", batch=key, error=str(cause_of(error)))

"""The durable records of batches.

    ROOT/_batches/<id>.json      the record: what was asked for, how far it is, how it ended
    ROOT/_batches/open/<id>      there as long as the batch is not done; when an ingress last waited for its run
    ROOT/_batches/runs/<id>.<n>  whose put-if-absent succeeded begins the n-th run
    ROOT/_batches/cancel/<id>    somebody asked to stop
    ROOT/_batches/damaged/<id>   why its record cannot be read, in the place of its mark in open/

ROOT is the one of ``access.outputs`` that the batch writes below.
"""

import itertools
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum

from pydantic import Field, ValidationError

from specktrack import telemetry
from specktrack.config import Config
from specktrack.errors import ConfigError, Conflict, StorageError
from specktrack.serving.answers import Asked
from specktrack.serving.config import ServeConfig
from specktrack.serving.places import allowed_place, is_below
from specktrack.storage import MissingError, Store, open_store
from specktrack.tracking.following import Reading

FOLDER = "_batches"
LOST_AFTER_S = 30.0
"""Without a heartbeat for so long, nobody is at work on a batch."""
_TIME = re.compile(rb"\d{1,12}(\.\d*)?")

log = telemetry.get_logger()


class BatchState(StrEnum):
    """Where a batch is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing more happens."""
        return self in (BatchState.DONE, BatchState.FAILED, BatchState.CANCELLED)


class BatchRequest(Asked):
    """A client's request."""

    sources: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """Videos, folders, globs or s3:// prefixes below the server's ``access.sources``."""
    output: str = Field(min_length=1)
    """Folder or prefix below the server's ``access.outputs``."""


class Batch(Config):
    """A batch's record."""

    id: str
    state: BatchState = BatchState.QUEUED
    sources: tuple[str, ...]
    output: str
    model: str
    reading: Reading | None = None
    """How its videos are read; None in the record of a server that knew no choice, which read them by its default."""
    created_s: float
    """Seconds since 1970."""
    heartbeat_s: float
    """When somebody last was at work on it."""
    runs: int = 0
    """Replicas that began it."""
    inside: bool | None = None
    """Whether the last of them does the work itself, and not actors of a Ray Data run."""
    clips: int = 0
    """Known once the videos are measured."""
    done: int = 0
    """Clips with rows, or set aside."""
    frames: int = 0
    quarantined: dict[str, int] = {}
    """Clips set aside, by reason."""
    rows: int = 0
    error: str | None = None


class BatchRecords:
    """The records below the roots that batches may write to."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._stores = [(root, open_store(f"{root.rstrip('/')}/{FOLDER}")) for root in roots]

    def create(self, sources: Sequence[str], output: str, model: str, reading: Reading | None = None) -> Batch:
        """A new record; its marker is written first, so that no batch is forgotten."""
        now = time.time()
        key = secrets.token_hex(8)
        asked = {"sources": tuple(sources), "output": output, "model": model, "reading": reading}
        batch = Batch(id=key, **asked, created_s=now, heartbeat_s=now - LOST_AFTER_S)
        store = self._store_of(output)
        store.put(f"open/{key}", _now())
        self.save(batch)
        return batch

    def begin(self, batch: Batch) -> Batch | None:
        """The batch, running, for the one caller that may run it; None for all others."""
        store = self._store_of(batch.output)
        for number in itertools.count(batch.runs + 1):
            try:
                store.put_if_absent(f"runs/{batch.id}.{number}", _now())
            except Conflict:
                if _since(store.get(f"runs/{batch.id}.{number}")) < LOST_AFTER_S:
                    return None
                continue  # who was first died before the record said so
            return batch.model_copy(update={"runs": number, "state": BatchState.RUNNING, "heartbeat_s": time.time()})
        raise AssertionError  # count() has no end

    def wait_for(self, key: str) -> None:
        """Say that the caller waits for the batch's run: nobody else has to ask for one."""
        for _, store in self._stores:
            with _others_go_on(store.uri):
                if store.exists(f"open/{key}"):
                    store.put(f"open/{key}", _now())

    def get(self, key: str) -> Batch | None:
        """A record by id."""
        if not (key.isalnum() and key.isascii()):
            return None
        for _, store in self._stores:
            with suppress(MissingError):
                return _read(store, key)
        return None

    def save(self, batch: Batch) -> None:
        """Replace a record; a final one loses its markers."""
        store = self._store_of(batch.output)
        store.put(f"{batch.id}.json", batch.model_dump_json(indent=1).encode())
        if batch.state.is_final:
            for mark in ("open", "cancel"):
                store.delete(f"{mark}/{batch.id}")

    def ask_to_stop(self, batch: Batch) -> None:
        """Leave the mark that whoever is at work on the batch looks for."""
        self._store_of(batch.output).put(f"cancel/{batch.id}", b"")

    def is_to_stop(self, batch: Batch) -> bool:
        """Whether somebody asked to stop."""
        return self._store_of(batch.output).exists(f"cancel/{batch.id}")

    def forsaken(self) -> list[str]:
        """Ids of batches that are not done, and that nobody is at work on or waits for.

        A record that is none is set aside; a root or a record that cannot be read now costs no other batch its turn.
        """
        found = []
        for _, store in self._stores:
            with _others_go_on(store.uri):
                for info in store.list("open/"):
                    with _others_go_on(store.uri_of(info.key)):
                        if self._is_forsaken(store, key := info.key.removeprefix("open/")):
                            found.append(key)
        return found

    def _is_forsaken(self, store: Store, key: str) -> bool:
        try:
            batch, waited_s = _read(store, key), _since(store.get(f"open/{key}"))
        except MissingError:  # not written yet, or it ended just now
            return False
        except _DamagedError as error:
            log.error("a batch is set aside", batch=key, error=str(error))
            store.put(f"damaged/{key}", str(error).encode())
            store.delete(f"open/{key}")
            return False
        if batch.state.is_final:
            store.delete(f"open/{key}")  # of one who waited when it ended
        return not batch.state.is_final and is_forsaken(batch) and waited_s >= LOST_AFTER_S

    def _store_of(self, output: str) -> Store:
        for root, store in self._stores:
            if is_below(output, root):
                return store
        raise ConfigError("no output of this server any more", output, remedy="name it in access.outputs again")


class _DamagedError(StorageError):
    """A record that nobody can read, now or later."""


@contextmanager
def _others_go_on(place: str) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        log.warning("cannot look for batches", place=place, error=str(error))


def _read(store: Store, key: str) -> Batch:
    """The record of a batch below one root; MissingError if it is not there."""
    try:
        return Batch.model_validate_json(store.get(f"{key}.json"))
    except ValidationError:
        raise _DamagedError("not a batch's record", key, store.uri) from None


def _now() -> bytes:
    return str(time.time()).encode()


def _since(mark: bytes) -> float:
    """Seconds since a mark was made; one that says no time is old."""
    return time.time() - (float(mark) if _TIME.fullmatch(mark) else 0.0)


def is_forsaken(batch: Batch) -> bool:
    """Whether the last heartbeat is too long ago."""
    return time.time() - batch.heartbeat_s >= LOST_AFTER_S


def checked_request(request: BatchRequest, config: ServeConfig) -> tuple[list[str], str]:
    """Sources and output as URIs that the server allows."""
    sources = [allowed_place(source, config.access.sources, "sources") for source in request.sources]
    return sources, allowed_place(request.output, config.access.outputs, "outputs")

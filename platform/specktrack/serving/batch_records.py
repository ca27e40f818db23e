"""The durable records of batches.

    ROOT/_batches/<id>.json      the record: what was asked for, how far it is, how it ended
    ROOT/_batches/open/<id>      there as long as the batch is not done; when an ingress last waited for its run
    ROOT/_batches/runs/<id>.<n>  whose put-if-absent succeeded begins the n-th run
    ROOT/_batches/cancel/<id>    somebody asked to stop
    ROOT/_batches/names/<sha>    the id of the batch that a client gave a name (Idempotency-Key)
    ROOT/_batches/damaged/<id>   why its record cannot be read, in the place of its mark in open/

    ROOT/_uploads/<id>/          clips that the request brought

ROOT is the one of ``access.outputs`` that the batch writes below.
"""

import itertools
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pydantic import ValidationError, model_validator

from specktrack import telemetry
from specktrack.errors import ConfigError, Conflict, StorageError
from specktrack.serving.answers import Batch, BatchState
from specktrack.serving.places import is_below
from specktrack.storage import MissingError, Store, open_store
from specktrack.tracking.following import Reading

FOLDER = "_batches"
UPLOADS = "_uploads"
"""Beside it: the clips that came with a request, in a folder per batch."""
LOST_AFTER_S = 30.0
"""Without a heartbeat for so long, nobody is working on a batch."""
_RECORD = re.compile(r"([0-9a-z]+)\.json")
_TIME = re.compile(rb"\d{1,12}(\.\d*)?")

log = telemetry.get_logger()


class BatchRecord(Batch):
    """The server's record of a batch; ``public`` is the part it shows."""

    source_uris: tuple[str, ...]
    output_uri: str
    heartbeat_s: float
    """When somebody last worked on it."""
    runs: int = 0
    """Replicas that began it."""
    inside: bool | None = None
    """Whether the last of them does the work itself, and not actors of a Ray Data run."""
    webhook: str | None = None
    asked_sha: str = ""
    """Of the request, so that one that is repeated is known from one that differs."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_servers(cls, value: Any) -> Any:
        """Their records name places by URI only."""
        if isinstance(value, dict) and "source_uris" not in value and {"sources", "output"} <= value.keys():
            return {**value, "source_uris": value["sources"], "output_uri": value["output"]}
        return value

    @property
    def public(self) -> Batch:
        """Without what is nobody's business."""
        return Batch.model_validate(self.model_dump(include=set(Batch.model_fields)))


class BatchRecords:
    """The records below the roots that batches may write to."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._stores = [(root, open_store(f"{root.rstrip('/')}/{FOLDER}")) for root in roots]

    def create(
        self,
        uris: Sequence[str],
        output_uri: str,
        model: str,
        reading: Reading | None = None,
        *,
        key: str | None = None,
        **asked: Any,
    ) -> BatchRecord:
        """A new record; its marker is written first, so that no batch is forgotten.

        ``asked`` are further fields, the client's own names for the places among them.
        """
        now, key = time.time(), key or new_id()
        places = {"source_uris": tuple(uris), "output_uri": output_uri}
        names = {"sources": tuple(uris), "output": output_uri}
        batch = BatchRecord(
            id=key, model=model, reading=reading, created_s=now, heartbeat_s=now - LOST_AFTER_S,
            **places, **{**names, **asked},
        )  # fmt: skip
        store = self._store_of(output_uri)
        store.put(f"open/{key}", _now())
        try:
            store.put_if_absent(f"{key}.json", _to_json(batch))
        except Conflict:  # the same request came twice at once
            return _read(store, key)
        return batch

    def id_of(self, name: str) -> str:
        """The id of the batch that a client gave a name; a new one for a new name."""
        (_, store), place = self._stores[0], f"names/{name}"
        with suppress(Conflict):
            store.put_if_absent(place, new_id().encode())
        return store.get(place).decode()

    def newest(self, *, after: str | None, most: int) -> tuple[list[BatchRecord], str | None]:
        """Records below ``after``, newest first, and the id after which the next page begins."""
        keys = {
            match[1] for _, store in self._stores for info in store.list() if (match := _RECORD.fullmatch(info.key))
        }
        page = sorted((key for key in keys if after is None or key < after), reverse=True)[: most + 1]
        found = [batch for key in page[:most] if (batch := self._readable(key)) is not None]
        return found, page[most - 1] if len(page) > most else None

    def _readable(self, key: str) -> BatchRecord | None:
        try:
            return self.get(key)
        except StorageError as error:
            log.warning("a batch cannot be read", batch=key, error=str(error))
            return None

    def begin(self, batch: BatchRecord) -> BatchRecord | None:
        """The batch, running, for the one caller that may run it; None for all others."""
        store = self._store_of(batch.output_uri)
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

    def get(self, key: str) -> BatchRecord | None:
        """A record by id."""
        if not (key.isalnum() and key.isascii()):
            return None
        for _, store in self._stores:
            with suppress(MissingError):
                return _read(store, key)
        return None

    def save(self, batch: BatchRecord) -> None:
        """Replace a record; a final one loses its markers."""
        store = self._store_of(batch.output_uri)
        store.put(f"{batch.id}.json", _to_json(batch))
        if batch.state.is_final:
            for mark in ("open", "cancel"):
                store.delete(f"{mark}/{batch.id}")

    def ask_to_stop(self, batch: BatchRecord) -> None:
        """Leave the mark that whoever is working on the batch looks for."""
        self._store_of(batch.output_uri).put(f"cancel/{batch.id}", b"")

    def is_to_stop(self, batch: BatchRecord) -> bool:
        """Whether somebody asked to stop."""
        return self._store_of(batch.output_uri).exists(f"cancel/{batch.id}")

    def forsaken(self) -> list[str]:
        """Ids of batches that are not done, and that nobody is working on or waits for.

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
            log.error("batch set aside", batch=key, error=str(error))
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
        raise ConfigError("no longer an output of this server", output, remedy="add it to access.outputs again")


class _DamagedError(StorageError):
    """A record that nobody can read, now or later."""


@contextmanager
def _others_go_on(place: str) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        log.warning("cannot look for batches", place=place, error=str(error))


def _to_json(batch: BatchRecord) -> bytes:
    return batch.model_dump_json(indent=1).encode()


def new_id() -> str:
    """Later ones sort later; nobody guesses one."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(6)}"


def _read(store: Store, key: str) -> BatchRecord:
    """The record of a batch below one root; MissingError if it is not there."""
    try:
        return BatchRecord.model_validate_json(store.get(f"{key}.json"))
    except ValidationError:
        raise _DamagedError("not a batch's record", key, store.uri) from None


def _now() -> bytes:
    return str(time.time()).encode()


def _since(mark: bytes) -> float:
    """Seconds since a mark was made; one that says no time is old."""
    return time.time() - (float(mark) if _TIME.fullmatch(mark) else 0.0)


def is_forsaken(batch: BatchRecord) -> bool:
    """Whether the last heartbeat is too long ago."""
    return time.time() - batch.heartbeat_s >= LOST_AFTER_S

"""One training run at a time in an output: each leaves a mark there and renews it for as long as it is at work.

    OUTPUT/lease/<n>.json     the n-th run: who it is, a beat that it counts up, and whether it has ended

The n-th mark is put only if absent, once the one before it has ended or stood still for a while: of several runs that
see this, one goes on. Whoever waits looks whether the beat changes, so nobody's clock is trusted.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from specktrack import telemetry
from specktrack.errors import ConfigError, Conflict, StorageError
from specktrack.storage import Store

BEAT_S = 3.0
STILL_S = 20.0
"""A mark that stands still for so long belongs to a run that was killed."""

log = telemetry.get_logger()


@contextmanager
def sole_run(store: Store) -> Iterator[None]:
    """Be the only run in an output inside the block; ConfigError if another one is at work there."""
    key, over = _take(store), threading.Event()
    beating = threading.Thread(target=_beat, args=(store, key, over), name="lease", daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()


def _take(store: Store) -> str:
    marks = [info.key for info in store.list("lease/")]
    number = int(PurePosixPath(marks[-1]).stem) + 1 if marks else 1
    if marks and _at_work(store, marks[-1]):
        raise _refusal(store, marks[-1])
    key = f"lease/{number:06}.json"
    try:
        store.put_if_absent(key, _mark(0))
    except Conflict:
        raise _refusal(store, key) from None
    return key


def _at_work(store: Store, key: str) -> bool:
    """Whether a mark moves while one looks at it."""
    first, until_s = _read(store, key), time.monotonic() + STILL_S
    if first["ended"]:
        return False
    log.info("waiting to see whether the run in this output is still active", run=first["run"], seconds=STILL_S)
    while time.monotonic() < until_s:
        time.sleep(BEAT_S / 3)
        if (now := _read(store, key)) != first:
            return not now["ended"]
    return False


def _refusal(store: Store, key: str) -> ConfigError:
    what, run = "another run is training into this output", _read(store, key)["run"]
    return ConfigError(what, run, store.uri, "wait for it to end, stop it, or use another output")


def _beat(store: Store, key: str, over: threading.Event) -> None:
    beat, ended = 0, False
    while not ended:
        ended, beat = over.wait(BEAT_S), beat + 1
        try:
            store.put(key, _mark(beat, ended=ended))
        except StorageError as error:
            log.warning("the run's lease on its output is not renewed", error=str(error))


def _mark(beat: int, *, ended: bool = False) -> bytes:
    run = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"run": run, "beat": beat, "ended": ended}).encode()


def _read(store: Store, key: str) -> dict[str, Any]:
    mark: dict[str, Any] = json.loads(store.get(key))
    return mark

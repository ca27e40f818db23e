"""Byte ranges of a store's objects, kept on this machine in a folder of bounded size, least recently used out first."""

import os
import uuid
from contextlib import suppress
from pathlib import Path

from specktrack.preparing.frames import runs
from specktrack.storage import FileStore, Store

BLOCK_BYTES = 2**20
"""One or two hold the pictures of a window; what is read beyond them are its neighbours."""
LOOK_EVERY = 0.01
"""Share of the bound that a process writes before it looks how much all of them have written."""
FULL = 0.9
"""Share of the bound that is kept when it was reached."""


class Blocks:
    """Reads ranges of objects that never change under their keys; those of a local store are read in place."""

    def __init__(self, store: Store, folder: Path | None = None, *, most_bytes: int = 0) -> None:
        """Without a ``folder`` nothing is kept."""
        self._store, self._most_bytes, self._unseen_bytes = store, most_bytes, 0
        self._folder = None if isinstance(store, FileStore) else folder
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)

    def uri_of(self, key: str) -> str:
        """The object's own URI."""
        return self._store.uri_of(key)

    def read(self, key: str, start: int, stop: int) -> bytes:
        """The object's bytes from ``start`` to ``stop``; fewer at its end."""
        if self._folder is None:
            return self._store.get_range(key, start, stop)
        numbers = range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
        paths = {number: self._folder / f"{key.rpartition('/')[2]}-{number}.block" for number in numbers}
        blocks = {number: data for number, path in paths.items() if (data := _kept(path)) is not None}
        for run in runs(number for number in numbers if number not in blocks):
            data = self._store.get_range(key, run.start * BLOCK_BYTES, run.stop * BLOCK_BYTES)
            for place, number in enumerate(run):
                blocks[number] = data[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
                self._keep(paths[number], blocks[number])
        first = numbers.start * BLOCK_BYTES
        return b"".join(blocks[number] for number in numbers)[start - first : stop - first]

    def _keep(self, path: Path, data: bytes) -> None:
        partial = path.with_suffix(f".{uuid.uuid4().hex}")
        partial.write_bytes(data)
        partial.replace(path)
        self._unseen_bytes += len(data)
        if self._unseen_bytes >= self._most_bytes * LOOK_EVERY:
            self._unseen_bytes = 0
            self._make_room()

    def _make_room(self) -> None:
        """Remove what was not used for longest, that of other processes included."""
        assert self._folder is not None
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process makes room as well
                    info = entry.stat()
                    found.append((info.st_mtime_ns, info.st_size, entry.path))
        size_bytes = sum(size for _, size, _ in found)
        if size_bytes <= self._most_bytes:
            return
        for _, size, path in sorted(found):
            if size_bytes <= self._most_bytes * FULL:
                break
            Path(path).unlink(missing_ok=True)
            size_bytes -= size


def _kept(path: Path) -> bytes | None:
    """A block that is there, which counts as used now."""
    with suppress(FileNotFoundError):
        data = path.read_bytes()
        os.utime(path)
        return data
    return None

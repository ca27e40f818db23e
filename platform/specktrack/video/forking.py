"""Where decoder processes come from: starting Python and its decoders takes 0.3 s, forking a loaded process 3 ms.

    owner  --socket-->   forking parent (child.py)    one per owner; never reads media; one thread, so that it may fork
    owner  <=channel=>   child                        confined before its first message
    owner  <=lifeline=>  forking parent               ends the child when it is shut; says its pid, and how it ended

All end with their owner: the parent and its children when the owner's sockets close, a child also with its parent.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from specktrack.errors import SpecktrackError
from specktrack.video.channel import Channel

COMMAND = ("-P", "-m", "specktrack.video.child")
START_S = 60.0
END_S = 5.0


class Child:
    """A forked decoder process, as its owner holds it."""

    def __init__(self, data: socket.socket, lifeline: socket.socket) -> None:
        self.channel, self.pid = Channel(data), 0
        self.idle = True
        """Not in the middle of a request."""
        self.may_say = 4
        """Things that it may still have logged."""
        self._data, self._lifeline = data, lifeline
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Wait until it is forked; OSError if it is not."""
        self._lifeline.settimeout(START_S)
        said = self._lifeline.recv(16)
        if not said:
            raise ConnectionError("the forking parent is gone")
        self.pid = int(said)

    def stop(self) -> None:
        """Have it killed, from whichever thread: what waits for its messages gets ClosedError."""
        with self._lock:  # the number of a closed socket is used again
            if self._lifeline.fileno() >= 0:
                self._lifeline.shutdown(socket.SHUT_WR)

    def end(self) -> int | None:
        """Kill it if it lives, and say how it ended as ``subprocess`` does; None if nobody knows."""
        self.stop()
        self._lifeline.settimeout(END_S)
        try:
            said = self._lifeline.recv(16)
        except OSError:
            said = b""
        self._close()
        return int(said) if said else None

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        with self._lock:
            self._lifeline.close()
            self._data.close()


def _import_path() -> list[str]:
    """This process's, without the current folder unless specktrack is in it: a folder of videos may hold any module."""
    own, here = Path(__file__).parents[2], Path()
    elsewhere = (Path(entry) for entry in sys.path if entry and Path(entry).exists())
    return [str(folder) for folder in elsewhere if folder == own or not folder.samefile(here)]


class _Parent:
    """The forking parent of this process."""

    def __init__(self) -> None:
        self._socket, its = socket.socketpair()
        environment = {  # and no credentials
            "PYTHONPATH": os.pathsep.join(_import_path()),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
        }
        with its:
            self._process = subprocess.Popen(
                [sys.executable, *COMMAND, str(its.fileno())],
                pass_fds=(its.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # no terminal: neither its Ctrl-C nor a way to type into it
                env=environment,
            )

    def fork(self, rights: dict[str, int | None]) -> Child:
        """A fresh child; OSError if there is no parent any more."""
        (data, childs), (lifeline, parents) = socket.socketpair(), socket.socketpair()
        child = Child(data, lifeline)
        with childs, parents:
            socket.send_fds(self._socket, [json.dumps(rights).encode()], [childs.fileno(), parents.fileno()])
        child.begin()
        return child

    def end(self) -> int:
        """Kill it, and its children with it; its exit code."""
        self._socket.close()
        self._process.kill()
        return self._process.wait()


_parent: _Parent | None = None
_lock = threading.Lock()


def fork(*, memory_bytes: int, cpu_s: int | None) -> Child:
    """A fresh child that gave up all but these rights; its parent is started with the first, and again if it died."""
    global _parent
    code = None
    with _lock:
        for _ in range(2):
            _parent = _parent or _Parent()
            try:
                return _parent.fork({"memory_bytes": memory_bytes, "cpu_s": cpu_s})
            except OSError:
                code, _parent = _parent.end(), None
    raise SpecktrackError("the decoder process does not start", f"exit code {code}")


def _forget() -> None:
    """In a process that was forked from this one (a worker of a DataLoader): it gets a parent of its own."""
    global _parent, _lock
    _parent, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


@atexit.register
def _end() -> None:
    if _parent is not None:
        _parent.end()

"""What a decoder process that was taken over would try: run inside of a real one, in the place of its answers."""

import ctypes
import errno
import fcntl
import os
import platform
import resource
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specktrack.video import child, landlock
from specktrack.video.system_calls import ARCHITECTURES, DENIED, OPENING

LIBC = ctypes.CDLL(None, use_errno=True)
AT = list(ARCHITECTURES).index(platform.machine()) if platform.machine() in ARCHITECTURES else 0
UNHARMED = {"fork", "vfork"}
"""With arguments of -1 all others do nothing, should they be let through."""
GETPID, TIOCSTI, F_SETSIG, PR_GET_DUMPABLE = (39, 172)[AT], 0x5412, 10, 3


def _errno_of(number: int, *arguments: int) -> int:
    ctypes.set_errno(0)
    LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    return ctypes.get_errno()


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (PermissionError, MemoryError, ValueError):  # of limits it is said by ValueError
        return True
    return False


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(1)


def open_doors(folder: str, owner: int) -> list[str]:
    """Names of what should be refused, or be left, and is not."""
    walled = landlock.version() > 0
    denied = DENIED if walled else DENIED | OPENING
    numbers = {name: pair[AT] for name, pair in denied.items() if name not in UNHARMED}
    found = [name for name, n in numbers.items() if n is not None and _errno_of(n, *[-1] * 6) != errno.EPERM]
    other = os.getppid()
    refused: dict[str, Callable[[], object]] = {
        "a socket": socket.socket,
        "a program": lambda: subprocess.run(["true"], check=False),
        "a process": os.fork,
        "a file": Path(folder, "new").touch,
        "a file's end": lambda: os.unlink(f"{folder}/kept"),
        "a file's mode": lambda: os.chmod(f"{folder}/kept", 0o777),
        "a file's time": lambda: os.utime(f"{folder}/kept", (1, 1)),
        "a signal": lambda: os.kill(other, 0),
        "a signal by its socket": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, other),
        "its number": lambda: fcntl.fcntl(0, F_SETSIG, 9),
        "typing": lambda: fcntl.ioctl(2, TIOCSTI, b"x"),
        "limits of another": lambda: resource.prlimit(other, resource.RLIMIT_CPU, (1, 1)),
        "limits of its own": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1)),
        "memory": lambda: bytearray(4 * 2**30),
        "a file to read": lambda: _read(f"{folder}/kept"),
        "a file by way of its code": lambda: _read(
            f"{Path(os.__file__).parent}/../../../../../../../../..{folder}/kept"
        ),
        "a file by a link of its own": lambda: _read(f"/proc/self/root{folder}/kept"),
        "names of files": lambda: os.listdir(folder),
        "names of users": lambda: _read("/etc/passwd"),
        "numbers of processes": lambda: os.listdir("/proc"),
        "connections of others": lambda: _read("/proc/net/tcp"),
        "a device": lambda: _read("/dev/zero"),
        **{
            f"{what} of {whose}": lambda number=number, what=what: _read(f"/proc/{number}/{what}")
            for whose, number in (("the owner", owner), ("the parent", other), ("itself", os.getpid()))
            for what in ("environ", "mem", "maps", "cmdline", "fd/0")
        },
    }
    found += [name for name, attempt in refused.items() if not _refused(attempt)]
    x32 = platform.machine() == "x86_64" and _errno_of(GETPID | 0x40000000) != errno.ENOSYS
    capabilities = ctypes.create_string_buffer(24)
    right = {
        "x32": not x32,
        "pidfd_open": _errno_of(434, other, 0) == errno.ENOSYS,
        "open files": resource.getrlimit(resource.RLIMIT_NOFILE) == (64, 64),
        "a terminal": not any(os.isatty(number) for number in range(3)) and os.getsid(0) == other,
        "its own code": not walled or _read(child.__file__) == b'"',
        "hidden from others": LIBC.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0,
        "capabilities": LIBC.capget(struct.pack("=Ii", 0x20080522, 0), capabilities) == 0 and not any(capabilities.raw),
        "a thread": not _refused(_thread),
    }
    return found + [name for name, fine in right.items() if not fine]


def _thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def _answer(channel: Any, request: dict[str, Any], body: bytearray) -> None:
    if "bug" in request:
        raise RuntimeError("a bug in the child")
    channel.send({"open": open_doors(request["folder"], request["owner"])})


if __name__ == "__main__":
    child._answer = _answer
    child.main(int(sys.argv[1]))

"""Limits of a decoding process: no sockets, no programs, no files except its own code, and limited resources.

Media decoders are large C programs that read what strangers send. So they run in a process of their own which gives
up, before it sees the first byte: address space, CPU time and open files beyond a limit, writing (FSIZE 0), core dumps
and being looked into, capabilities, and by a seccomp filter every system call that reaches beyond it
(``system_calls.py``). By Landlock it reads Python, its packages and the system's libraries, and no other file: neither
its user's, nor /proc with the environments and the memory of others. Where the kernel has no Landlock, the filter
refuses to open any file; what decoding needs is loaded before (``child.py``).
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

from specktrack.video import landlock
from specktrack.video.system_calls import ARCHITECTURES, DENIED, EQUAL, FIRST_UNKNOWN, LOOKED_INTO, OPENING

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 1, 4, 38, 22, 2
_CAPABILITIES_VERSION = 0x20080522
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _JUMP_AT_LEAST, _RETURN = 0x20, 0x35, 0x06  # BPF: ld abs, jge, ret

MEMORY_BYTES = 3 * 2**30
"""Address space, libraries and their reservations included: 8K pictures need about 700 MB."""
OPEN_FILES = 64
"""A socket, three streams, and a module that is loaded late."""
SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


def end_with(parent: int) -> None:
    """Have this process killed when its parent dies: on Linux, elsewhere it outlives it until its channel is closed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it died before it was asked for
            os._exit(0)


def confine(*, memory_bytes: int = MEMORY_BYTES, cpu_s: int | None = None) -> bool:
    """Give up rights in this process for good; False where the system has no filter for system calls."""
    for limit, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = hard if most is None else most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (value, value))
    return sys.platform == "linux" and _confine_on_linux()


def _confine_on_linux() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if walled := landlock.version() > 0:
        landlock.read_only_below(code_folders())
    libc.capset(struct.pack("=Ii", _CAPABILITIES_VERSION, 0), bytes(24))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if platform.machine() not in ARCHITECTURES:
        return False
    program = _program(platform.machine(), opening=walled)
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0) == 0)


@lru_cache
def code_folders() -> frozenset[Path]:
    """Those of the interpreter, of the packages that it has loaded by now, and of the system's libraries.

    Not all of ``sys.path``: the folder that a program was started in may be there as well.
    """
    loaded = [module for name, module in sys.modules.items() if "." not in name]
    packages = {folder for module in loaded for folder in getattr(module, "__path__", ())}
    python = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), f"{sys.base_prefix}/lib"}
    return frozenset(Path(each) for each in python | packages | set(SYSTEM_LIBRARIES) if Path(each).is_dir())


def _program(machine: str, *, opening: bool) -> bytes:
    """The filter in BPF: instructions of (code, jump if true, jump if false, constant)."""
    at = list(ARCHITECTURES).index(machine)
    refuse, absent, number_of_call = (
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        (_LOAD, 0, 0, 0),
    )
    lines = [(_LOAD, 0, 0, 4), (EQUAL, 1, 0, ARCHITECTURES[machine]), refuse]
    lines += [number_of_call, (_JUMP_AT_LEAST, 0, 1, FIRST_UNKNOWN), absent]
    for numbers in (DENIED if opening else DENIED | OPENING).values():
        if (number := numbers[at]) is not None:
            lines += [(EQUAL, 0, 1, number), refuse]
    for look in LOOKED_INTO:
        if (number := look.numbers[at]) is not None:
            jump = (0, 1) if look.refused else (1, 0)
            lines += [(EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 4 * look.word), (look.jump, *jump, look.constant)]
            lines += [refuse, number_of_call]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)

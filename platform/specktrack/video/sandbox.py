"""What a decoding process may no longer do: new sockets, programs or files to write, and more than its share.

Media decoders are large C programs that read what strangers send. So they run in a process of their own which gives
up, before it sees the first byte: address space, CPU time and open files beyond a limit, writing (FSIZE 0), core dumps,
and by a seccomp filter every system call that reaches beyond it (``system_calls.py``).
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

from specktrack.video.system_calls import ARCHITECTURES, DENIED, EQUAL, FIRST_UNKNOWN, LOOKED_INTO

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 1, 38, 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _JUMP_AT_LEAST, _RETURN = 0x20, 0x35, 0x06  # BPF: ld abs, jge, ret

MEMORY_BYTES = 3 * 2**30
"""Address space, libraries and their reservations included: 8K pictures need about 700 MB."""
OPEN_FILES = 64
"""A socket, three streams, and a module that is loaded late."""


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
    return _filter_system_calls()


def _filter_system_calls() -> bool:
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return False
    program = _program(platform.machine())
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.create_string_buffer(header, len(header)), 0, 0) == 0


def _program(machine: str) -> bytes:
    """The filter in BPF: instructions of (code, jump if true, jump if false, constant)."""
    at = list(ARCHITECTURES).index(machine)
    refuse, absent, number_of_call = (
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
        (_LOAD, 0, 0, 0),
    )
    lines = [(_LOAD, 0, 0, 4), (EQUAL, 1, 0, ARCHITECTURES[machine]), refuse]
    lines += [number_of_call, (_JUMP_AT_LEAST, 0, 1, FIRST_UNKNOWN), absent]
    for numbers in DENIED.values():
        if (number := numbers[at]) is not None:
            lines += [(EQUAL, 0, 1, number), refuse]
    for look in LOOKED_INTO:
        if (number := look.numbers[at]) is not None:
            jump = (0, 1) if look.refused else (1, 0)
            lines += [(EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 4 * look.word), (look.jump, *jump, look.constant)]
            lines += [refuse, number_of_call]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)

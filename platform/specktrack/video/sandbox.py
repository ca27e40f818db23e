"""What a decoder process may not do: open sockets, start programs, write files, outgrow its memory, outlive its owner.

FFmpeg reads bytes that anyone may have made. Its process is therefore left with two pipes: the bytes come from its
owner, the pictures go to its owner, and what a hostile video could reach from it is nothing.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
import threading

MEMORY_BYTES = 3 * 2**30
"""Address space, libraries and their reservations included: 8K pictures need about 700 MB."""
OPEN_FILES = 64

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_ALLOW, _REFUSE_EPERM = 0x7FFF0000, 0x00050001
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K (linux/bpf_common.h)
_ARCHITECTURES = {
    # machine: (AUDIT_ARCH of linux/audit.h; numbers of socket, socketpair, connect, execve, execveat, ptrace)
    "x86_64": (0xC000003E, (41, 53, 42, 59, 322, 101)),
    "aarch64": (0xC00000B7, (198, 199, 203, 221, 281, 117)),
}


def confine() -> None:
    """Give up, for good, what this process does not need; call before the first byte of a video is read."""
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    if sys.platform == "linux" and platform.machine() in _ARCHITECTURES:
        _refuse_calls(*_ARCHITECTURES[platform.machine()])


def die_with(lifeline: int) -> None:
    """End this process when the other end of the pipe ``lifeline`` is closed, also while the decoder hangs."""

    def watch() -> None:
        os.read(lifeline, 1)
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _refuse_calls(architecture: int, numbers: tuple[int, ...]) -> None:
    """A seccomp filter: the calls fail with EPERM. Where the kernel has no seccomp, the other limits must do."""

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    n = len(numbers)
    steps = [
        step(_LOAD, 4),  # seccomp_data.arch
        step(_JUMP_IF_EQUAL, architecture, 0, n + 2),  # another ABI's numbers mean other calls: refuse all of them
        step(_LOAD, 0),  # seccomp_data.nr
        *(step(_JUMP_IF_EQUAL, number, n - i) for i, number in enumerate(numbers)),
        step(_RETURN, _ALLOW),
        step(_RETURN, _REFUSE_EPERM),
    ]
    code = ctypes.create_string_buffer(b"".join(steps), 8 * len(steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(program), 0, 0)

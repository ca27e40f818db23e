"""What a decoding process may no longer do: new sockets, programs or files to write, and more than its share.

Media decoders are large C programs that read what strangers send. So they run in a process of their own which gives
up, before it sees the first byte: address space and CPU time beyond a limit, writing (FSIZE 0), core dumps, and by a
seccomp filter every system call that opens a network connection, starts a program, or opens a file for writing.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 1, 38, 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld abs, jeq, jset, ret
_OPEN_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_DENIED = {  # system call: its number on x86_64 and on aarch64, None where it is not there
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "creat": (85, None), "truncate": (76, 45), "ftruncate": (77, 46), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "unlink": (87, None), "unlinkat": (263, 35), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmodat": (268, 53), "chown": (92, None),
    "fchownat": (260, 54), "mount": (165, 40),
}  # fmt: skip
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437)}
"""Answered as not there, so that libc falls back on clone and openat, whose arguments can be looked into."""
_ALLOWED_WITHOUT = {"open": ((2, 1), (None, 0)), "openat": ((257, 2), (56, 2))}
"""System call and place of its flags: denied with a flag of _OPEN_FOR_WRITING."""
_ALLOWED_WITH = {"clone": ((56, 0), (220, 0))}
"""The same: denied without _CLONE_THREAD, so that it makes threads and no processes."""


MEMORY_BYTES = 3 * 2**30
"""Address space, libraries and their reservations included: 8K pictures need about 700 MB."""


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
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = hard if most is None else most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (value, value))
    return _filter_system_calls()


def _filter_system_calls() -> bool:
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
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
    at = list(_ARCHITECTURES).index(machine)
    refuse = (_RETURN, 0, 0, _ERRNO | _EPERM)
    lines = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]), refuse, (_LOAD, 0, 0, 0)]
    for calls, answer in ((_DENIED, refuse), (_UNKNOWN, (_RETURN, 0, 0, _ERRNO | _ENOSYS))):
        for numbers in calls.values():
            if (number := numbers[at]) is not None:
                lines += [(_JUMP_EQUAL, 0, 1, number), answer]
    for looked_into, flags, refused_with in (
        (_ALLOWED_WITHOUT, _OPEN_FOR_WRITING, True),
        (_ALLOWED_WITH, _CLONE_THREAD, False),
    ):
        for number, place in (places[at] for places in looked_into.values()):
            if number is not None:
                jump = (0, 1) if refused_with else (1, 0)
                lines += [(_JUMP_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 8 * place), (_JUMP_ANY_BIT, *jump, flags)]
                lines += [refuse, (_LOAD, 0, 0, 0)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *line) for line in lines)

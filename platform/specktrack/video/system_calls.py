"""System calls that a decoding process may not make, by their numbers on x86_64 and aarch64.

All that reaches beyond the process is refused: connections, programs, signals, other processes, files to write, what
processes share by name, the system itself. Calls younger than Linux 5.0 (x32's are numbered above them) are answered as
not there, and libc falls back on their elders, whose arguments can be looked into.
"""

import os
from typing import NamedTuple

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
FIRST_UNKNOWN = 424
"""From here on all architectures have the same numbers: pidfd, io_uring, clone3, openat2, the new mount calls."""

DENIED = {  # None where an architecture has no such call
    # connections
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    # programs, and other processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "unshare": (272, 97), "setns": (308, 268), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "setrlimit": (160, 164), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "personality": (135, 92),
    # files to write, and their properties
    "creat": (85, None), "truncate": (76, 45), "ftruncate": (77, 46), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "unlink": (87, None), "unlinkat": (263, 35), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "open_by_handle_at": (304, 265),
    # what processes share by name
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219),
    # the system itself
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
}  # fmt: skip

OPENING = {"open": (2, None), "openat": (257, 56)}
"""Refused as well where Landlock does not say which files may be opened."""

EQUAL, ANY_BIT = 0x15, 0x45
"""BPF's jumps: the word is the constant; it has a bit of the constant."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CLONE_THREAD = 0x10000
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15


class Look(NamedTuple):
    """A call that is let through or not by one of its arguments."""

    numbers: tuple[int | None, int | None]
    word: int
    """Which 32 bits of the arguments: 2 n is the lower half of argument n, 2 n + 1 the upper one."""
    jump: int
    constant: int
    refused: bool = True
    """If the jump is taken; otherwise, if it is not."""


LOOKED_INTO = (
    Look((2, None), 2, ANY_BIT, _WRITING),  # open
    Look((257, 56), 4, ANY_BIT, _WRITING),  # openat
    Look((56, 220), 0, ANY_BIT, _CLONE_THREAD, refused=False),  # clone: threads, and no processes
    Look((302, 261), 4, EQUAL, 0, refused=False),  # prlimit64: reads limits, and sets none
    Look((302, 261), 5, EQUAL, 0, refused=False),
    *(Look((16, 29), 2, EQUAL, request) for request in (_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP)),  # ioctl
    *(Look((72, 25), 2, EQUAL, command) for command in (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)),  # fcntl
)
"""Typing into a terminal is refused, and so are signals to others by way of a socket that belongs to them."""

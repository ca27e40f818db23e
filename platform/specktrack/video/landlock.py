"""Landlock: a process permanently gives up reading any but a few files (Linux 5.13; userspace-api/landlock there)."""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls; all architectures have the same numbers."""
_ASK_VERSION, _PATH_BENEATH, _READ_FILE, _READ_FOLDER = 1, 1, 1 << 2, 1 << 3
_FILE_RIGHTS = (0, 13, 14, 15, 15, 16)
"""How many rights over files each version knows: bits from the lowest on."""
_TCP_SINCE, _SCOPES_SINCE = 4, 6
"""Binding and connecting; abstract Unix sockets and signals, two bits each."""


def version() -> int:
    """Which Landlock the kernel has; 0 where it has none, or a container's filter refuses it."""
    return max(0, _call(_CREATE_RULESET, None, 0, _ASK_VERSION)) if sys.platform == "linux" else 0


def read_only_below(folders: Iterable[Path]) -> None:
    """Have this process open files below ``folders`` to read them, and no others; it needs ``no_new_privs`` before."""
    known = version()
    files = (1 << _FILE_RIGHTS[min(known, len(_FILE_RIGHTS) - 1)]) - 1
    handled = struct.pack("=QQQ", files, 3 * (known >= _TCP_SINCE), 3 * (known >= _SCOPES_SINCE))
    rules = _done(_call(_CREATE_RULESET, handled, len(handled), 0))
    for folder in folders:
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        rule = struct.pack("=Qi", _READ_FILE | _READ_FOLDER, place)
        _done(_call(_ADD_RULE, rules, _PATH_BENEATH, rule, 0))
        os.close(place)
    _done(_call(_RESTRICT_SELF, rules, 0))
    os.close(rules)


def _call(number: int, *arguments: int | bytes | None) -> int:
    words = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *words))


def _done(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result

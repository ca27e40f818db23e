"""Ports for servers that cannot say which one the system gave them."""

import itertools
import os
import socket

_TRIED = itertools.count(os.getpid() % 12_000)


def free_port() -> int:
    """A port below those that the system gives to outgoing connections, one of which would take it at any moment."""
    for number in _TRIED:
        port = 20_000 + number % 12_000
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError  # count() has no end

"""Ctrl-C on a run: once finishes and commits the clips in progress, twice stops at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from specktrack import telemetry

log = telemetry.get_logger()


@contextmanager
def finished_first(stop: Callable[[], None]) -> Iterator[None]:
    """Inside, the first interrupt calls ``stop``, and KeyboardInterrupt comes at the end; a second one comes at once.

    In another thread than the main one, where no signal arrives, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            signal.default_int_handler(number, frame)
        asked.set()
        log.warning("stopping after the clips in progress; press Ctrl-C again to stop at once")
        stop()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked.is_set():
        raise KeyboardInterrupt

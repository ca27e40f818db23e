"""Structured log lines: events with fields, to stderr.

    log = get_logger()
    log.info("clip committed", clip=key, rows=120)

Standard output belongs to results (``--json``), so nothing is ever logged there.
"""

import logging
import sys
from typing import Any

import structlog

_bars = True


def configure(*, verbose: bool = False, quiet: bool = False, plain: bool = False) -> None:
    """Set up logging once per process: readable lines on a terminal, JSON lines otherwise.

    ``quiet`` lets warnings and errors through alone, ``plain`` leaves colours and bars away.
    """
    global _bars
    _bars = not (quiet or plain)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    renderers: list[Any] = [structlog.dev.ConsoleRenderer(colors=not plain)]
    if not sys.stderr.isatty():
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=False,
    )


def shows_bars() -> bool:
    """Whether a person watches stderr and wants bars that move."""
    return _bars and sys.stderr.isatty()


class _StderrLogger(structlog.WriteLogger):
    """Looks stderr up at each line, so that a redirected stream is followed; writes, since Ray Train patches print."""

    def __init__(self, *_: Any) -> None:
        super().__init__(file=sys.stderr)


def get_logger(**fields: Any) -> Any:
    """A logger whose lines all carry ``fields``."""
    if not structlog.is_configured():
        configure()
    return structlog.get_logger(**fields)

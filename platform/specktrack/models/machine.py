"""Measurements of this machine, kept between processes: files below ~/.cache/specktrack/engines (or XDG_CACHE_HOME)."""

import atexit
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic_core import from_json

from specktrack import __version__, telemetry
from specktrack.config import sha_of
from specktrack.storage.files import settle

RUNTIMES = ("torch", "openvino", "onnxruntime", "nncf")

log = telemetry.get_logger()


@cache
def folder() -> Path:
    """Where it is remembered; where nothing can be written, a folder that ends with this process."""
    wanted = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "specktrack" / "engines"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError as error:
        log.warning("engines are prepared again in every process", detail=str(error), remedy="set XDG_CACHE_HOME")
        passing = Path(tempfile.mkdtemp(prefix="specktrack-engines-"))
        atexit.register(shutil.rmtree, passing, ignore_errors=True)
        return passing


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process of this machine at a time; the others wait."""
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def recalled(*facts: Any) -> dict[str, Any] | None:
    """The measurement kept for these facts on this machine, if there is one."""
    try:
        found = from_json(_file(facts).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remembered(find_out: Callable[[], dict[str, Any]], *facts: Any) -> dict[str, Any]:
    """The result of ``find_out``, measured once for these facts on this machine with these packages."""
    if (found := recalled(*facts)) is not None:
        return found
    place = _file(facts)
    with alone(place.stem):
        if (found := recalled(*facts)) is None:
            found = find_out()
            partial = place.with_suffix(".partial")
            partial.write_text(json.dumps(found))
            settle(partial, place)
    return found


def versions() -> dict[str, str]:
    """The runtimes that are installed, and this package."""
    there = {"specktrack": __version__}
    for name in RUNTIMES:
        try:
            there[name] = version(name)
        except PackageNotFoundError:
            continue
    return there


def _file(facts: tuple[Any, ...]) -> Path:
    return folder() / f"{sha_of([_machine(), *facts])[:32]}.json"


@cache
def _machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    except OSError:
        processor = [platform.machine(), platform.processor()]
    return {
        "processor": hashlib.sha256("\n".join(processor).encode()).hexdigest(),
        "cores": os.cpu_count(),
        "capped": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "versions": versions(),
    }

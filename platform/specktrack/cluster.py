"""Joining a Ray cluster or starting one on this machine, with token authentication on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private import ray_constants, services
from ray.job_config import JobConfig

from specktrack.errors import ConfigError

# Set before Ray reads them; what the user has set stands. RAY_AUTH_MODE is not among them: ray.init() turns token
# authentication on by itself, and its native part does not see a variable that is set after Ray's import.
_DEFAULTS = {
    "MALLOC_ARENA_MAX": "2",  # glibc otherwise keeps freed pictures in an arena per thread: workers grow for hours
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports are drained at this pace; 2 s would throttle them
    # Its notice in advance helps no loop that resumes from checkpoints; deaths by preemption are known without it.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES of CPU-only workers as it is
}


@contextmanager
def connected(address: str = "auto") -> Iterator[None]:
    """Be connected to a cluster inside the block; one that was joined or started here is left at the end.

    ``auto`` takes the connection this process already has, else the cluster that RAY_ADDRESS names or that
    ``ray start`` began on this machine, else starts one here; ``local`` always starts one. ConfigError if a cluster
    does not answer.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        _connect(address)
        _spend_warning()
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    # Our own lines go straight to stderr; Ray's loggers speak up for errors only.
    logging = {"logging_level": "error", "logging_config": ray.LoggingConfig(log_level="ERROR")}
    try:
        # None, not "auto": the latter would also join any stray Ray process that it finds on this machine.
        there = None if address == "auto" else address
        with _on_loopback() if _is_own(address) else nullcontext():
            ray.init(there, include_dashboard=False, job_config=_OwnPath(), **logging)
    except (ConnectionError, RuntimeError, ValueError) as error:
        named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
        raise ConfigError(f"no Ray cluster answers: {error}", named, remedy="check the address and the token") from None


def _is_own(address: str) -> bool:
    """Whether Ray is started here, and none joined."""
    there = os.environ.get("RAY_ADDRESS") or services.find_bootstrap_address(None) if address == "auto" else address
    return there in (None, "local")


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have Ray's servers listen on 127.0.0.1: no other machine is to join, and metrics are told without a key.

    Ray has no such option. What is set here is what RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 sets; that must be there before
    Ray is imported, and would keep this process from joining a cluster later.
    """
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


class _OwnPath(JobConfig):
    """Leaves the workers their own import path.

    Ray puts the driver's current folder, and that of its script, before the standard library: in a folder of videos any
    ``calendar.py`` would be run.
    """

    def _serialize(self) -> Any:
        self._py_driver_sys_path: list[str] = []
        return super()._serialize()


def _spend_warning() -> None:
    """Have Ray say what it says once in every process, about the first of Ray Data's actors, where nobody hears it.

    Those actors may restart and take arguments from the object store, which Ray's native part reports as an error
    (ray-project/ray#53727). There is no switch for it: RAY_BACKEND_LOG_LEVEL hides all errors, and prints a line of its
    own in every process. The actor here asks for what no node has, and is forgotten at once.
    """
    warned = ray.remote(num_cpus=0, max_restarts=1, resources={"nowhere": 1})(_Warned)
    sys.stderr.flush()
    heard, unheard = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(unheard, 2)
    try:
        warned.remote(ray.put(None))
    finally:
        os.dup2(heard, 2)
        os.close(heard)
        os.close(unheard)


class _Warned:
    def __init__(self, _: object) -> None:
        """Takes the argument that is warned of."""

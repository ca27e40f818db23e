"""Joining a Ray cluster or starting one on this machine, with token authentication on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from specktrack import telemetry
from specktrack.errors import ConfigError

log = telemetry.get_logger()

# Set before Ray reads them; what the user has set stands. RAY_AUTH_MODE is not among them: ray.init() turns token
# authentication on by itself, and its native part does not see a variable that is set after Ray's import.
_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports are drained at this pace; 2 s would throttle them
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep CUDA_VISIBLE_DEVICES of CPU-only workers as it is
}


@contextmanager
def connected(address: str = "auto", *, object_store_bytes: int = 512 * 2**20) -> Iterator[None]:
    """Be connected to a cluster inside the block; one that was joined or started here is left at the end.

    ``auto`` takes the connection this process already has, else the cluster that RAY_ADDRESS names or that runs on this
    machine, else starts one here; ``local`` always starts one. ConfigError if a named cluster does not answer.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        _connect(address, object_store_bytes)
        yield
    finally:
        ray.shutdown()


def _connect(address: str, object_store_bytes: int) -> None:
    quiet = {"log_to_driver": True, "logging_level": "warning"}
    if address == "auto" and not os.environ.get("RAY_ADDRESS"):
        try:
            ray.init("auto", **quiet)
        except ConnectionError:
            address = "local"
        else:
            return
    if address == "local":
        ray.init("local", object_store_memory=object_store_bytes, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
        raise ConfigError(f"no Ray cluster answers: {error}", named, remedy="check the address and the token") from None

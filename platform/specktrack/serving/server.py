"""``specktrack serve``: starts or joins Ray, deploys the application and runs until it is stopped."""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from ray import serve as ray_serve
from ray.serve._private.api import serve_start
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, DeploymentSchema, ServeDeploySchema

from specktrack import telemetry
from specktrack.cluster import connected
from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.serving.catalog import catalog
from specktrack.serving.config import IMPORT_PATH, ServerConfig, check_cluster, check_public_bind
from specktrack.serving.health import APPLICATION, DIRECT, url_of
from specktrack.storage.places import placed

START_TIMEOUT_S = 300.0

log = telemetry.get_logger()


class ServerReport(Config):
    """How a server ended."""

    url: str
    seconds: float


def serve(config: ServerConfig) -> ServerReport:
    """Serve until interrupted.

    ConfigError for a public address without keys and for one that is taken, CheckpointError for a missing model.
    """
    check_public_bind(config.host, config.application)
    check_cluster(config.address, os.environ)
    catalog(config.application)  # a mistake is said here, not in a replica's log
    started = time.monotonic()
    with quietly_connected(config.address):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # how containers are stopped; Ray's handler aborts
        if _get_global_client(raise_if_no_controller_running=False) is None:
            check_is_free(config.host, config.port)
        deploy(config)
        url = url_of(config.host, config.port)
        log.info("serving", url=url, models=list(config.models), docs=f"{url}/docs")
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            log.info("stopping", url=url)
            ray_serve.delete(APPLICATION)  # what was taken in is answered: a shutdown alone ends proxies at once
        finally:
            ray_serve.shutdown()
    return ServerReport(url=url, seconds=round(time.monotonic() - started, 1))


@contextmanager
def quietly_connected(address: str) -> Iterator[None]:
    """Be connected to Ray, with Serve's own lines, one per request, in Ray's log folder alone."""
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with connected(address):
        yield


def deploy(config: ServerConfig) -> None:
    """Deploy the application on the Ray that this process is connected to, and wait until it is ready."""
    content = serve_file(config)
    check_keys(content["applications"][0]["deployments"], list[DeploymentSchema], "deployments")
    schema = ServeDeploySchema.model_validate(content)
    client = serve_start(http_options={"host": config.host, "port": config.port}, proxy_location="EveryNode")
    taken = client.http_config  # of a Serve that was there before: it keeps its own
    if (taken.host, taken.port) != (config.host, config.port):
        where, remedy = f"{taken.host}:{taken.port}", "use that address, or stop it with: serve shutdown"
        raise ConfigError(
            "Ray Serve on this cluster already listens on another address", where, "host and port", remedy
        )
    client.deploy_apps(schema, _blocking=False)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        status = ray_serve.status().applications.get(APPLICATION)
        if status is not None and status.status == ApplicationStatus.DEPLOY_FAILED:
            raise ConfigError(f"the application could not be deployed: {_why(status)}")
        # Both: replicas of an application that this one replaces are ready, too.
        running = status is not None and status.status == ApplicationStatus.RUNNING
        if running and _is_ready(config.host, config.port):
            return
        if time.monotonic() > deadline:
            raise ConfigError(f"the server is not ready after {START_TIMEOUT_S:g} s", place=str(status))
        time.sleep(0.25)


def check_keys(content: Any, kind: Any, place: str) -> None:
    """ConfigError for a key that Ray's schema has not: Ray itself would drop it."""
    model = _model_in(kind)
    if isinstance(content, list):
        for each in content:
            check_keys(each, kind, place)
    elif isinstance(content, dict) and model is not None:
        for key, value in content.items():
            if key not in model.model_fields:
                remedy = f"there are {', '.join(model.model_fields)}"
                raise ConfigError("Ray Serve has no such setting", key, content.get("name", place), remedy)
            check_keys(value, model.model_fields[key].annotation, str(content.get("name", key)))


def _model_in(kind: Any) -> type[BaseModel] | None:
    """The model in an annotation, ``list[Model] | None`` say; in a mapping's values none is looked for."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return None if get_origin(kind) is dict else next(filter(None, map(_model_in, get_args(kind))), None)


def check_is_free(host: str, port: int) -> None:
    """ConfigError where nobody can listen, or somebody does: two of Ray's proxies would share the port's callers."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for what is left of a server that just ended
            probe.bind((host, port))
    except OSError as error:
        what, remedy = f"cannot listen there: {error.strerror}", "choose another --port, or stop what listens there"
        raise ConfigError(what, f"{host}:{port}", "host and port", remedy) from None


def serve_file(config: ServerConfig) -> dict[str, Any]:
    """The configuration as for ``serve deploy``: with absolute places, because replicas run in their own folders."""
    args = placed(config.application).model_dump(mode="json")
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": config.host, "port": config.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": args,
                "deployments": list(config.deployments),
            }
        ],
    }


def _why(status: Any) -> str:
    """The messages of the deployments that failed, without their tracebacks."""
    said = [deployment.message for deployment in status.deployments.values() if deployment.status == "DEPLOY_FAILED"]
    lines = [line for message in said or [status.message] for line in message.strip().splitlines() if line.strip()]
    return " ".join(lines[-3:])[-2000:]


def _is_ready(host: str, port: int) -> bool:
    reached = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    try:
        with DIRECT.open(f"{url_of(reached, port)}/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:  # of which urllib's errors are
        return False

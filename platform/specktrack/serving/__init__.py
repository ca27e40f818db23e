"""Serving on Ray Serve: clips over HTTP, live streams, template sessions and batches.

    config       ServeConfig, the ``args:`` of the application in serve_config.yaml; ServerConfig, the verb
    catalog      the models that requests may name
    application  build(config) -> Application: which deployments there are
    scaling      how many replicas there are; routing: which of them a request goes to
    server       serve(config): the verb
    gateway      the ingress deployment
    api          its HTTP routes, which take bodies in by uploads and fetch, check callers by access and places, and
                 answer as answers, formats and problems say; streams: its WebSocket
    tracking     the deployments with networks: clips, and live sessions, kept by sessions; passes: their windows share
                 forward passes
    batches      the batch deployment; batch_records: its durable records
    metrics      what Prometheus is told
    client       the typed client, for programs that call the server
    playground/  one static page

Importing this loads neither torch nor ray: ``specktrack serve --help`` and the client are fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from specktrack.serving.config import ServeConfig, ServerConfig

if TYPE_CHECKING:
    from specktrack.serving.server import serve

__all__ = ["ServeConfig", "ServerConfig", "build", "serve"]


def build(args: dict[str, Any]) -> Any:
    """The application of ``args``, as ``import_path: specktrack.serving:build`` names it in serve_config.yaml."""
    return import_module("specktrack.serving.application").build(args)


def __getattr__(name: str) -> Any:
    if name != "serve":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("specktrack.serving.server").serve

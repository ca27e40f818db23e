"""Serving on Ray Serve: clips over HTTP, live streams, template sessions and batches.

    config       ServeConfig, the ``args:`` of the application in serve_config.yaml; ServerConfig, the verb
    catalog      the models that requests may name
    application  build(config) -> Application: which deployments there are
    scaling      how many replicas there are; routing: which of them a request goes to
    server       serve(config): the verb
    ingress      the ingress deployment: the gateway, which hands work to the others, behind routes; batch_control: the
                 batches that it takes in and watches over; health: whether it can answer
    routes       of HTTP, with clip_routes and batch_routes, which take bodies in by uploads and fetch, check callers by
                 access, dependencies and places, and answer as answers, formats and problems say; streams: the
                 WebSocket; openapi: what is told of them; boundary: what is around every request
    replica      the deployments with networks: clips, and live sessions, kept by sessions; passes: their windows share
                 forward passes
    batches      the batch deployment; batch_records: its durable records; webhooks: who is told of their end
    metrics      what Prometheus is told
    client       the typed client, for programs that call the server
    playground/  one static page

Importing this loads neither torch nor ray: ``specktrack serve --help`` and the client are fast.
"""

from typing import TYPE_CHECKING

from specktrack.lazy import names
from specktrack.serving.config import ServeConfig, ServerConfig

if TYPE_CHECKING:
    from specktrack.serving.application import build
    from specktrack.serving.server import serve

__all__ = ["ServeConfig", "ServerConfig", "build", "serve"]


__getattr__ = names(__name__, build="specktrack.serving.application", serve="specktrack.serving.server")
"""``build`` is the ``import_path: specktrack.serving:build`` of serve_config.yaml."""

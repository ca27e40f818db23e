"""The ingress deployment: the gateway behind its HTTP routes."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from specktrack import __version__
from specktrack.serving import routes
from specktrack.serving.boundary import Outermost, http_problem, invalid
from specktrack.serving.gateway import Gateway
from specktrack.serving.openapi import TAGS, Api


class Ingress(Gateway):
    """The gateway as a Serve deployment."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve once the replica stands."""
        return create_app(self)


def create_app(gateway: Gateway) -> FastAPI:
    """The application of one ingress replica."""
    app = Api(
        title="specktrack",
        version=__version__,
        summary="Rows that say where a tiny, fast object is in every frame of a video.",
        lifespan=gateway.lifespan,
        docs_url=None,  # FastAPI's own pages fetch their scripts from the internet
        redoc_url=None,
        exception_handlers={HTTPException: http_problem, RequestValidationError: invalid},
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,  # what a generated client calls the operation
    )
    for router in routes.ALL:
        app.include_router(router(gateway))
    app.mount("/playground", StaticFiles(directory=routes.PLAYGROUND), name="playground")
    app.mount("/swagger-ui", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger-ui")
    app.add_middleware(Outermost, gateway=gateway)
    if origins := gateway.config.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=["Location", "Retry-After", "X-Request-ID"],
        )
    return app

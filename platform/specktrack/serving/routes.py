"""The HTTP routes. OpenAPI prints their docstrings; ``Gateway`` does the work."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response, WebSocket
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel

from specktrack.schema import Prompt
from specktrack.serving import formats, problems, uploads
from specktrack.serving.answers import BoxesField, Health, ModelInfo, OpenedSession, Rows
from specktrack.serving.batch_routes import batch_routes
from specktrack.serving.boundary import CSP
from specktrack.serving.clip_routes import clip_routes
from specktrack.serving.config import Limits
from specktrack.serving.dependencies import OwnFolder, checked, unsupported, validated
from specktrack.serving.gateway import Gateway
from specktrack.serving.health import prometheus
from specktrack.serving.openapi import FILE, FPS, multipart
from specktrack.serving.problems import Refusal
from specktrack.serving.streams import stream

MOST_PICTURES_BYTES = 64_000_000
"""Bytes of all pictures of one request, which are held in memory."""
PLAYGROUND = Path(__file__).parent / "playground"


def _server_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["server"])

    @routes.get("/", include_in_schema=False)
    async def playground() -> FileResponse:
        return FileResponse(PLAYGROUND / "index.html", headers={"Content-Security-Policy": CSP})

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="specktrack API",
            swagger_js_url="/swagger-ui/swagger-ui-bundle.js",
            swagger_css_url="/swagger-ui/swagger-ui.css",
            swagger_favicon_url="/playground/icon.svg",
        )

    @routes.get("/healthz", response_model=Health)
    async def healthz() -> Health:
        """Whether the process is alive."""
        return Health(status="ok")

    @routes.get("/readyz", response_model=Health, responses=problems.responses(503))
    async def readyz() -> Health:
        """Whether the server can process a clip: the first model is loaded and its replicas are running."""
        if reason := await gateway.health.not_ready():
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {reason}")
        return Health(status="ready")

    @routes.get(
        "/metrics",
        dependencies=[Depends(checked(gateway))],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems.responses(401, 422)},
    )
    async def metrics() -> Response:
        """Prometheus metrics of specktrack and Ray Serve, from all nodes."""
        return Response(await prometheus(), media_type="text/plain; version=0.0.4")

    @routes.get(
        "/v1/models",
        response_model=list[ModelInfo],
        dependencies=[Depends(checked(gateway))],
        responses=problems.responses(401, 422),
    )
    async def models() -> Any:
        """The models that requests can choose."""
        return list(gateway.models.values())

    @routes.get("/v1/limits", dependencies=[Depends(checked(gateway))], responses=problems.responses(401, 422))
    async def limits() -> Limits:
        """The server's limits; no request can raise them."""
        return gateway.config.limits

    return routes


def _stream_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.websocket("/v1/stream")
    async def live(socket: WebSocket) -> None:
        """Send one JPEG or PNG picture per binary message; receive rows as they become final."""
        await stream(gateway, socket)

    return routes


def _session_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["sessions"], prefix="/v1/sessions", dependencies=[Depends(checked(gateway))])
    frames = {"type": "array", "items": FILE, "minItems": 1}
    boxed = {"type": "string", **({"enum": list(gateway.boxed)} if gateway.boxed else {})}

    @routes.post(
        "",
        status_code=201,
        responses=problems.responses(400, 401, 404, 408, 413, 415, 422, 503),
        openapi_extra=multipart(
            {"frame": FILE, "box": BoxesField.as_sent(), "model": boxed, "fps": FPS},
            ["frame", "box"],
        ),
    )
    async def open_session(request: Request, folder: OwnFolder) -> OpenedSession:
        """Start a session that follows the objects in one or several boxes in a first picture.

        ``frame`` is a JPEG or PNG picture. ``box`` is JSON with cx_px, cy_px, w_px, h_px, no larger than the frame, or
        a list of such boxes, whose objects are numbered in order. ``model`` is a model that takes a box, by default the
        first. ``fps`` is the frame rate for the times of rows, by default 30.
        """
        form = await _pictures(request, folder, gateway)
        if len(form.files) != 1:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a session begins with one 'frame'", len(form.files))
        picture = form.files[0][2].read_bytes()
        model = gateway.boxed_model(form.fields.get("model"))
        boxes = _parsed(BoxesField, form.fields.get("box"), "box").boxes
        prompts = tuple(Prompt(frame=0, box=box, object=number) for number, box in enumerate(boxes))
        key = await gateway.open(model, prompts, _fps(form.fields.get("fps")))
        try:
            rows = await gateway.push(key, [picture])
        except BaseException:  # whatever it was, also that the caller left: nobody knows the id of this session
            await gateway.drop(key)
            raise
        plain = formats.plain_rows(rows)
        return OpenedSession.model_validate(
            {"id": key, "model": model.name, "idle_s": gateway.config.limits.session_idle_s, "rows": plain}
        )

    @routes.post(
        "/{session_id}/frames",
        responses=problems.responses(400, 401, 404, 408, 410, 413, 415, 422, 503),
        openapi_extra=multipart({"frame": frames}, ["frame"]),
    )
    async def push_frames(session_id: str, request: Request, folder: OwnFolder) -> Rows:
        """Send the next pictures, in order; returns the rows that are now final."""
        form = await _pictures(request, folder, gateway)
        pictures = [path.read_bytes() for _, _, path in form.files]
        if not pictures:
            raise Refusal(HTTPStatus.BAD_REQUEST, "no 'frame' in the body")
        return Rows.model_validate({"rows": formats.plain_rows(await gateway.push(session_id, pictures))})

    @routes.delete("/{session_id}", responses=problems.responses(401, 404, 410, 422, 503))
    async def close_session(session_id: str) -> Rows:
        """End a session; returns its remaining rows."""
        return Rows.model_validate({"rows": formats.plain_rows(await gateway.finish(session_id))})

    return routes


async def _pictures(request: Request, folder: Path, gateway: Gateway) -> uploads.Form:
    """The pictures of a request, from a multipart body or as the body itself."""
    limits, kind = gateway.config.limits, uploads.media_type_of(request)
    if kind == uploads.MULTIPART:
        most_bytes = max(limits.picture_bytes, MOST_PICTURES_BYTES)
        form = await uploads.receive_form(request, folder, limits, most_bytes=most_bytes)
    elif kind in uploads.PICTURES:
        form = await uploads.receive_file(request, folder, limits, most_bytes=limits.picture_bytes)
    else:
        raise unsupported(request, f"{uploads.MULTIPART}, image/jpeg or image/png")
    if any(path.stat().st_size > limits.picture_bytes for _, _, path in form.files):
        what = f"a picture of more than {limits.picture_bytes:,} bytes"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
    return form


def _parsed(kind: type[BaseModel], text: str | None, name: str) -> Any:
    if text is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the field {name!r} is missing")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"the field {name!r} is not JSON") from None
    return validated(kind, value)


def _fps(text: str | None) -> float:
    try:
        fps = float(text or 30.0)
    except ValueError:
        fps = 0.0
    if not 0 < fps <= 1000:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "fps is a number above 0 and at most 1000", text)
    return fps


ALL = (_server_routes, clip_routes, _stream_routes, _session_routes, batch_routes)
"""Each makes a router of a gateway's."""

"""The HTTP routes. What they mean is in the docstrings, which OpenAPI prints; what they do is in Gateway."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response, WebSocket
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError

from specktrack import telemetry
from specktrack.config import explain
from specktrack.schema import Prompt
from specktrack.serving import formats, problems, uploads
from specktrack.serving.answers import AnnotateUri, Annotation, Asked, BoxesField, Health, OpenedSession, Rows
from specktrack.serving.batch_records import Batch, BatchRequest
from specktrack.serving.boundary import CSP
from specktrack.serving.catalog import ModelInfo
from specktrack.serving.gateway import Gateway
from specktrack.serving.openapi import FILE, FPS, multipart, ref
from specktrack.serving.problems import Refusal
from specktrack.serving.streams import stream

MOST_PICTURES_BYTES = 64_000_000
"""Of all pictures of one request: they are held in memory."""
PLAYGROUND = Path(__file__).parent / "playground"


async def _own_folder() -> AsyncIterator[Path]:
    """A folder for what a request brings, removed once it is answered: that takes a millisecond."""
    with tempfile.TemporaryDirectory(prefix="specktrack-") as folder:
        yield Path(folder)


OwnFolder = Annotated[Path, Depends(_own_folder)]
log = telemetry.get_logger()


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
        """Whether the process lives."""
        return Health(status="ok")

    @routes.get("/readyz", response_model=Health, responses=problems.responses(503))
    async def readyz() -> Health:
        """Whether a clip can be answered: the first model is loaded and its replicas run."""
        if reason := await gateway.not_ready():
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {reason}")
        return Health(status="ready")

    @routes.get(
        "/metrics",
        dependencies=[Depends(_checked(gateway))],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems.responses(401)},
    )
    async def metrics() -> Response:
        """Prometheus metrics of specktrack and Ray Serve, from all nodes."""
        return Response(await gateway.prometheus(), media_type="text/plain; version=0.0.4")

    @routes.get(
        "/v1/models",
        response_model=list[ModelInfo],
        dependencies=[Depends(_checked(gateway))],
        responses=problems.responses(401),
    )
    async def models() -> Any:
        """The models that requests may name."""
        return list(gateway.models.values())

    return routes


def _clip_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["clips"], dependencies=[Depends(_checked(gateway))])
    rows_in_formats: dict[str, Any] = {kind: {"schema": FILE} for kind in formats.FORMATS if kind != formats.JSON}

    @routes.post(
        "/v1/annotate",
        response_model=Annotation,
        response_class=Response,
        responses={
            200: {"content": {formats.JSON: {"schema": ref(Annotation)}, **rows_in_formats}},
            **problems.responses(400, 401, 403, 404, 406, 408, 413, 415, 422, 503, 504),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    uploads.MULTIPART: {
                        "schema": {
                            "type": "object",
                            "required": ["clip"],
                            "properties": {"clip": FILE, **Asked.model_json_schema()["properties"]},
                        }
                    },
                    formats.JSON: {"schema": AnnotateUri.model_json_schema()},
                    "application/octet-stream": {"schema": FILE},
                },
            }
        },
    )
    async def annotate(request: Request, folder: OwnFolder, asked: Annotated[Asked, Query()]) -> Response:
        """One clip in, one row per frame out.

        The clip is the body itself, the ``clip`` part of a multipart body, or ``{"uri": ...}``. The model and how the
        clip is read are chosen in the query or in the body. Accept chooses JSON, CSV, Parquet or an Arrow stream.
        """
        kind = formats.choose(request.headers.get("accept"))
        path, video, also_asked = await _clip(request, folder, gateway)
        rows, facts = await gateway.annotate(path, video, asked.over(also_asked))
        answer = await asyncio.to_thread(formats.FORMATS[kind], rows, {"video": video, **facts})
        return Response(answer, media_type=kind)

    return routes


def _stream_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.websocket("/v1/stream")
    async def live(socket: WebSocket) -> None:
        """One JPEG or PNG picture per binary message in; rows out as they become final."""
        await stream(gateway, socket)

    return routes


def _session_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["sessions"], prefix="/v1/sessions", dependencies=[Depends(_checked(gateway))])
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
        """Begin to follow what a box in a first picture holds, or several.

        ``frame``: a JPEG or PNG picture; ``box``: JSON with cx_px, cy_px, w_px, h_px, no larger than the frame, or a
        list of such boxes, whose objects are numbered as they come;
        ``model``: one that takes a box, the first of them by default; ``fps``: the rate that gives
        rows their times, 30 by default.
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
        """The next pictures, in order; the rows that are now final."""
        form = await _pictures(request, folder, gateway)
        pictures = [path.read_bytes() for _, _, path in form.files]
        if not pictures:
            raise Refusal(HTTPStatus.BAD_REQUEST, "no 'frame' in the body")
        return Rows.model_validate({"rows": formats.plain_rows(await gateway.push(session_id, pictures))})

    @routes.delete("/{session_id}", responses=problems.responses(401, 404, 410, 503))
    async def close_session(session_id: str) -> Rows:
        """End a session; its remaining rows."""
        return Rows.model_validate({"rows": formats.plain_rows(await gateway.finish(session_id))})

    return routes


def _batch_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["batches"], prefix="/v1/batches", dependencies=[Depends(_checked(gateway))])

    @routes.post(
        "",
        status_code=202,
        response_model=Batch,
        responses=problems.responses(400, 401, 403, 404, 408, 413, 415, 422, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {formats.JSON: {"schema": BatchRequest.model_json_schema()}},
            }
        },
    )
    async def start_batch(request: Request, response: Response) -> Batch:
        """Annotate many videos in the background; the rows are written to ``output``."""
        if uploads.media_type_of(request) != formats.JSON:
            raise _unsupported(request, formats.JSON)
        asked = _validated(BatchRequest, await uploads.receive_json(request, gateway.config.limits))
        batch = await gateway.start_batch(asked)
        response.headers["Location"] = f"/v1/batches/{batch.id}"
        return batch

    @routes.get("/{batch_id}", response_model=Batch, responses=problems.responses(401, 404, 503))
    async def get_batch(batch_id: str) -> Batch:
        """How far a batch is, or how it ended; known as long as its record lies in the output."""
        return await gateway.batch(batch_id)

    @routes.delete("/{batch_id}", status_code=202, response_model=Batch, responses=problems.responses(401, 404, 503))
    async def cancel_batch(batch_id: str) -> Batch:
        """Stop a batch soon; what it completed stays, and the same request goes on from there."""
        return await gateway.cancel_batch(batch_id)

    return routes


async def _clip(request: Request, folder: Path, gateway: Gateway) -> tuple[Path, str, Asked]:
    """The clip of a request on disk, what its rows call it, and what the body chooses."""
    limits, kind = gateway.config.limits, uploads.media_type_of(request)
    if kind == formats.JSON:
        asked = _validated(AnnotateUri, await uploads.receive_json(request, limits))
        gateway.model(asked.model)
        await gateway.fetch_clip(asked.uri, folder / "clip")
        return folder / "clip", asked.uri, asked
    if kind == uploads.MULTIPART:
        form = await uploads.receive_form(request, folder, limits, most_bytes=limits.body_bytes + 65536)
        clips = [file for file in form.files if file[0] == "clip"]
        if len(clips) != 1 or len(form.files) != 1:
            named = [name for name, _, _ in form.files]
            raise Refusal(HTTPStatus.BAD_REQUEST, "a multipart body holds one file, named 'clip'", named)
        return clips[0][2], uploads.safe_name(clips[0][1]), _validated(Asked, form.fields)
    if kind.startswith(uploads.RAW):
        form = await uploads.receive_file(request, folder, limits, most_bytes=limits.body_bytes)
        return form.files[0][2], "clip", Asked()
    raise _unsupported(request, f"{uploads.MULTIPART}, {formats.JSON}, video/* or application/octet-stream")


async def _pictures(request: Request, folder: Path, gateway: Gateway) -> uploads.Form:
    """The pictures of a request, from a multipart body or as the body itself."""
    limits, kind = gateway.config.limits, uploads.media_type_of(request)
    if kind == uploads.MULTIPART:
        most_bytes = max(limits.picture_bytes, MOST_PICTURES_BYTES)
        form = await uploads.receive_form(request, folder, limits, most_bytes=most_bytes)
    elif kind in uploads.PICTURES:
        form = await uploads.receive_file(request, folder, limits, most_bytes=limits.picture_bytes)
    else:
        raise _unsupported(request, f"{uploads.MULTIPART}, image/jpeg or image/png")
    if any(path.stat().st_size > limits.picture_bytes for _, _, path in form.files):
        what = f"a picture of more than {limits.picture_bytes:,} bytes"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
    return form


def _checked(gateway: Gateway) -> Callable[..., Coroutine[Any, Any, None]]:
    """The dependency that asks for a key; the WebSocket asks by itself, before it accepts."""
    bearer = HTTPBearer(auto_error=False, description="A key of the server's api_keys_file, where it has one.")

    async def check(request: Request, _: Annotated[Any, Depends(bearer)]) -> None:
        gateway.keys.check(request.headers.get("authorization"))

    return check


def _validated(kind: type[Any], value: Any) -> Any:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, explain(error, kind)) from None


def _parsed(kind: type[BaseModel], text: str | None, name: str) -> Any:
    if text is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the field {name!r} is missing")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"the field {name!r} is not JSON") from None
    return _validated(kind, value)


def _fps(text: str | None) -> float:
    try:
        fps = float(text or 30.0)
    except ValueError:
        fps = 0.0
    if not 0 < fps <= 1000:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "fps is a number above 0 and at most 1000", text)
    return fps


def _unsupported(request: Request, wanted: str) -> Refusal:
    kind = uploads.media_type_of(request)
    return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "no such Content-Type here", kind, remedy=f"send {wanted}")


ALL = (_server_routes, _clip_routes, _stream_routes, _session_routes, _batch_routes)
"""Each makes a router of a gateway's."""

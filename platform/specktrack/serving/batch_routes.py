"""/v1/batches: many videos in the background, the list of batches, and their results."""

from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import Field

from specktrack.config import Config
from specktrack.serving import formats, problems, uploads
from specktrack.serving.answers import Batch, BatchAsked, Batches, BatchRequest
from specktrack.serving.dependencies import OwnFolder, checked, unsupported, validated
from specktrack.serving.gateway import CHUNK_BYTES, Gateway
from specktrack.serving.openapi import FILE, form_of, ref
from specktrack.serving.problems import Refusal
from specktrack.storage import local_path, open_binary, stat


class Page(Config):
    """Page of the list."""

    after: str | None = None
    """``next`` of the previous page."""
    limit: int = Field(default=50, ge=1, le=200)
    """Batches per page."""


class Drawn(Config):
    """Choice of a drawn video."""

    video: str | None = None
    """Its name as in the rows; not needed if the batch has only one video."""


def batch_routes(gateway: Gateway) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["batches"], prefix="/v1/batches", dependencies=[Depends(checked(gateway))])
    clips = {"type": "array", "items": FILE, "minItems": 1}
    rows = {kind: {"schema": FILE} for kind in formats.FORMATS}

    @routes.post(
        "",
        status_code=202,
        response_model=Batch,
        responses=problems.responses(400, 401, 403, 404, 408, 413, 415, 422, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    formats.JSON: {"schema": ref(BatchRequest)},
                    uploads.MULTIPART: {"schema": form_of(BatchAsked, {"clip": clips}, ["clip"])},
                },
            }
        },
    )
    async def start_batch(
        request: Request,
        response: Response,
        folder: OwnFolder,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Batch:
        """Annotate many videos in the background: places that the server reads, or uploaded clips.

        The rows are written to ``output``, and GET .../rows returns them. Sources that do not exist are refused. A
        repeated request with the same ``Idempotency-Key`` returns the batch of the first one.
        """
        name = idempotency_key and f"{request.headers.get('authorization')} {idempotency_key}"
        limits, kind = gateway.config.limits, uploads.media_type_of(request)
        if kind == formats.JSON:
            asked = validated(BatchRequest, await uploads.receive_json(request, limits))
            own = BatchAsked.model_validate(asked.model_dump(exclude={"sources"}, exclude_unset=True))
            batch = await gateway.start_batch(own, sources=asked.sources, name=name)
        elif kind == uploads.MULTIPART:
            form = await uploads.receive_form(request, folder, limits, most_bytes=limits.batch_bytes)
            batch = await gateway.start_batch(
                validated(BatchAsked, form.fields), clips=_clips(form, limits.body_bytes), name=name
            )
        else:
            raise unsupported(request, f"{formats.JSON} or {uploads.MULTIPART}")
        response.headers["Location"] = f"/v1/batches/{batch.id}"
        return batch

    @routes.get("", response_model=Batches, responses=problems.responses(401, 422, 503))
    async def list_batches(page: Annotated[Page, Query()]) -> Batches:
        """All batches, newest first."""
        return await gateway.batches.newest(page.after, page.limit)

    @routes.get("/{batch_id}", response_model=Batch, responses=problems.responses(401, 404, 422, 503))
    async def get_batch(batch_id: str) -> Batch:
        """Progress of a batch, or its result; available as long as its record is in the output."""
        return await gateway.batches.batch(batch_id)

    @routes.get(
        "/{batch_id}/rows",
        response_class=Response,
        responses={200: {"content": rows}, **problems.responses(401, 404, 406, 409, 422, 503)},
    )
    async def get_batch_rows(batch_id: str, request: Request) -> Response:
        """The rows of a batch so far, in the formats of /v1/annotate; each row names its video."""
        kind = formats.choose(request.headers.get("accept"))
        tables = await gateway.batches.rows(batch_id)
        return StreamingResponse(formats.FORMATS[kind](tables, {"batch": batch_id}), media_type=kind)

    @routes.get(
        "/{batch_id}/overlay",
        response_class=Response,
        responses={200: {"content": {"video/mp4": {"schema": FILE}}}, **problems.responses(401, 404, 422, 503)},
    )
    async def get_batch_overlay(batch_id: str, drawn: Annotated[Drawn, Query()]) -> Response:
        """A video with the trajectory drawn on it, of a batch with ``overlay``."""
        return _video(await gateway.batches.overlay(batch_id, drawn.video))

    @routes.delete(
        "/{batch_id}", status_code=202, response_model=Batch, responses=problems.responses(401, 404, 422, 503)
    )
    async def cancel_batch(batch_id: str) -> Batch:
        """Cancel a batch soon; what it completed stays, and the same request resumes it."""
        return await gateway.batches.cancel(batch_id)

    return routes


def _clips(form: uploads.Form, most_bytes: int) -> list[tuple[str, Path]]:
    """The clips of a form by name, each of at most ``most_bytes``."""
    if not form.files or {field for field, _, _ in form.files} != {"clip"}:
        named = [field for field, _, _ in form.files]
        raise Refusal(HTTPStatus.BAD_REQUEST, "a batch's multipart body holds files named 'clip'", named)
    for _, name, path in form.files:
        if not 0 < path.stat().st_size <= most_bytes:
            what = f"a clip has 1 to {most_bytes:,} bytes"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what, uploads.safe_name(name))
    return [(uploads.safe_name(name), path) for _, name, path in form.files]


def _video(uri: str) -> Response:
    """A stored MP4, of which a player may ask for parts where it lies on this disk."""
    if (path := local_path(uri)) is not None:
        return FileResponse(path, media_type="video/mp4")

    def pieces() -> Any:
        with open_binary(stat(uri)) as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    return StreamingResponse(pieces(), media_type="video/mp4")

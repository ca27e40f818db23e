"""POST /v1/annotate: a clip in, its rows out: all at once, streamed, or as a batch if it takes too long."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from specktrack import telemetry
from specktrack.serving import formats, problems, uploads
from specktrack.serving.answers import AnnotateUri, Annotation, Asked, Batch, BatchAsked, ClipAsked, Event
from specktrack.serving.dependencies import OwnFolder, checked, unsupported, validated
from specktrack.serving.gateway import Gateway, is_fetched
from specktrack.serving.openapi import FILE, form_of, ref
from specktrack.serving.problems import LongerThanAllowed, Refusal, cause_of, problem_of

PROGRESS_EVERY_S = 1.0

log = telemetry.get_logger()


def clip_routes(gateway: Gateway) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["clips"], dependencies=[Depends(checked(gateway))])
    others: dict[str, Any] = {kind: {"schema": FILE} for kind in formats.FORMATS if kind != formats.JSON}
    others[formats.NDJSON] = {"schema": ref(Event)}

    @routes.post(
        "/v1/annotate",
        response_model=Annotation,
        response_class=Response,
        responses={
            200: {"content": {formats.JSON: {"schema": ref(Annotation)}, **others}},
            202: {"model": Batch, "description": "It would take too long: a batch does it."},
            **problems.responses(400, 401, 403, 404, 406, 408, 413, 415, 422, 503, 504),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    uploads.MULTIPART: {"schema": form_of(ClipAsked, {"clip": FILE}, ["clip"])},
                    formats.JSON: {"schema": ref(AnnotateUri)},
                    "application/octet-stream": {"schema": FILE},
                },
            }
        },
    )
    async def annotate(request: Request, folder: OwnFolder, asked: Annotated[ClipAsked, Query()]) -> Response:
        """Annotate a clip: one row per frame.

        The clip is the body itself, the ``clip`` part of a multipart body, or ``{"uri": ...}``. Choose the model, the
        reading settings and the range of frames in the query or in the body. Accept chooses JSON, CSV or Parquet, which
        are sent when all rows are known, or ``application/x-ndjson`` or an Arrow stream, which send rows as they become
        final. Lines of NDJSON are rows, or have an ``event``: clip first, progress now and then, and end or problem
        last. If the rows would take longer than the server allows, the answer is 202 with a batch.
        """
        kind = formats.choose(request.headers.get("accept"))
        path, video, also_asked = await _clip(request, folder, gateway)
        wanted = asked.over(also_asked)
        if kind in formats.STREAMED:
            return await _streamed(gateway, kind, path, video, wanted)
        try:
            rows, facts = await gateway.annotate(path, video, wanted)
        except LongerThanAllowed as error:
            return await _as_batch(gateway, path, video, wanted, cause_of(error))
        del facts["wanted"]
        pieces = formats.FORMATS[kind]([rows], {"video": video, **facts})
        return Response(await asyncio.to_thread(b"".join, pieces), media_type=kind)

    return routes


async def _clip(request: Request, folder: Path, gateway: Gateway) -> tuple[Path, str, ClipAsked]:
    """The clip of a request on disk, what its rows call it, and what the body chooses."""
    limits, kind = gateway.config.limits, uploads.media_type_of(request)
    if kind == formats.JSON:
        asked = validated(AnnotateUri, await uploads.receive_json(request, limits))
        gateway.model(asked.model)
        await gateway.fetch_clip(asked.uri, folder / "clip")
        return folder / "clip", asked.uri, asked
    if kind == uploads.MULTIPART:
        form = await uploads.receive_form(request, folder, limits, most_bytes=limits.body_bytes + 65536)
        clips = [file for file in form.files if file[0] == "clip"]
        if len(clips) != 1 or len(form.files) != 1:
            named = [name for name, _, _ in form.files]
            raise Refusal(HTTPStatus.BAD_REQUEST, "a multipart body holds one file, named 'clip'", named)
        return clips[0][2], uploads.safe_name(clips[0][1]), validated(ClipAsked, form.fields)
    if kind.startswith(uploads.RAW):
        form = await uploads.receive_file(request, folder, limits, most_bytes=limits.body_bytes)
        return form.files[0][2], "clip", ClipAsked()
    raise unsupported(request, f"{uploads.MULTIPART}, {formats.JSON}, video/* or application/octet-stream")


async def _as_batch(gateway: Gateway, path: Path, video: str, asked: ClipAsked, why: BaseException) -> Response:
    """202 with a batch of the clip; Refusal(413) where the server has none, for a part of a clip and for prompts."""
    if not gateway.batches.is_on or not asked.is_whole:
        remedy = f"accept {formats.NDJSON}, which streams rows as they become final, or send a shorter clip"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(why), remedy=remedy)
    own = BatchAsked.model_validate(asked.model_dump(include=set(Asked.model_fields), exclude_unset=True))
    if "/" not in video or is_fetched(video):
        name = uploads.safe_name(urlsplit(video).path if is_fetched(video) else video)
        batch = await gateway.start_batch(own, clips=[(name, path)])
    else:
        batch = await gateway.start_batch(own, sources=[video])
    log.info("clip becomes a batch", batch=batch.id, because=str(why))
    return JSONResponse(batch.model_dump(mode="json"), HTTPStatus.ACCEPTED, {"Location": f"/v1/batches/{batch.id}"})


async def _streamed(gateway: Gateway, kind: str, path: Path, video: str, asked: ClipAsked) -> Response:
    told = gateway.follow_clip(path, video, asked)
    facts = await anext(told)  # what goes wrong until now is an answer of its own
    wanted = facts.pop("wanted")
    facts = {"video": video, **facts}
    body = _ndjson(facts, wanted, told) if kind == formats.NDJSON else _arrow(facts, told)
    return StreamingResponse(body, media_type=kind)


async def _ndjson(facts: dict[str, Any], wanted: int, told: AsyncGenerator[Any]) -> AsyncIterator[bytes]:
    done, started, told_s = 0, time.monotonic(), time.monotonic()
    yield formats.lines([{"event": "clip", **facts}])
    async with aclosing(told):
        try:
            async for each in told:
                if isinstance(each, dict):
                    yield formats.lines([{"event": "end", **each}])
                    return
                yield formats.lines(formats.plain_rows(each))
                done, now = done + len(each["frame"].unique()), time.monotonic()
                if now - told_s >= PROGRESS_EVERY_S:
                    told_s, left_s = now, round((now - started) * (wanted - done) / done, 1)
                    yield formats.lines([{"event": "progress", "done": done, "frames": wanted, "left_s": left_s}])
        except Exception as error:  # noqa: BLE001 -- at the boundary: the answer has begun, so the problem is its last line
            yield formats.lines([{"event": "problem", **problem_of(error).model_dump(exclude_none=True)}])


async def _arrow(facts: dict[str, Any], told: AsyncGenerator[Any]) -> AsyncIterator[bytes]:
    stream = formats.ArrowStream(facts)
    async with aclosing(told):
        async for each in told:
            if not isinstance(each, dict):
                yield stream.more(each)
    yield stream.end()

"""Around every HTTP request: who may call, what errors become, and what is counted."""

import time
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from specktrack import telemetry
from specktrack.serving import problems
from specktrack.serving.access import is_of_this_machine
from specktrack.serving.gateway import Gateway
from specktrack.serving.places import without_roots
from specktrack.serving.problems import Problem, Refusal, problem_of, request_id

CSP = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; connect-src 'self' ws: wss:"
DOCS_CSP = "default-src 'self' 'unsafe-inline'; img-src 'self' data:"

log = telemetry.get_logger()


async def http_problem(_: Request, error: Exception) -> Response:
    """The framework's own refusals."""
    assert isinstance(error, HTTPException)
    return _answer(problem_of(Refusal(error.status_code, error.detail)), error.headers)


async def invalid(_: Request, error: Exception) -> Response:
    """Parameters that are not valid."""
    assert isinstance(error, RequestValidationError)
    said = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return _answer(problem_of(Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, said)), None)


def _answer(problem: Problem, headers: Any) -> JSONResponse:
    shown = problem.model_dump(exclude_none=True)
    return JSONResponse(shown, problem.status, {**problems.headers_of(problem), **(headers or {})}, problems.MEDIA_TYPE)


class Outermost:
    """Around every HTTP request: errors become problems, and each answer is counted, timed and logged with its id."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens inside."""
        stranger = self._stranger(scope) if scope["type"] in ("http", "websocket") else None
        if scope["type"] == "websocket" and stranger:
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # answered as GET (RFC 9110, 9.3.2), of which uvicorn sends the head
            scope = {**scope, "method": "GET"}
        started, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _harden(scope, message)
            await send(message)

        try:
            if stranger:
                raise stranger
            await self._app(scope, receive, counted)
        except Exception as error:  # at the HTTP boundary: every error is an answer
            if status:
                raise
            problem = self._told(problem_of(error))
            if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                log.exception("request failed", request=request_id(), path=scope["path"])
            await _answer(problem, None)(scope, receive, counted)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _stranger(self, scope: Scope) -> Refusal | None:
        """Without keys only programs of this machine may call, of which a browser acts for other sites' pages, too."""
        if not self._gateway.local_only:
            return None
        host, origin = (dict(scope["headers"]).get(name, b"").decode("latin-1") for name in (b"host", b"origin"))
        if not is_of_this_machine(host):
            what, remedy = "not a name of this machine", "use 127.0.0.1 or localhost, or set access.api_keys_file"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, what, remedy=remedy)
        if origin and origin.partition("://")[2] != host and origin not in self._gateway.config.access.origins:
            return Refusal(HTTPStatus.FORBIDDEN, "a page of another site", origin)
        return None

    def _told(self, problem: Problem) -> Problem:
        """Without the server's own paths."""
        access = self._gateway.config.access
        detail = without_roots(problem.detail, (*access.sources, *access.outputs))
        return problem.model_copy(update={"detail": detail})

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._gateway.metrics.requests.inc(tags={"route": route, "status": str(status or "aborted")})
        self._gateway.metrics.seconds.observe(seconds, tags={"route": route})
        if route.startswith("/v1"):
            log.info("answered", request=request_id(), route=route, status=status, seconds=round(seconds, 4))


def _harden(scope: Scope, message: Message) -> None:
    """Headers for browsers: no guessing of types, no framing; scripts from here only."""
    names = {name.lower() for name, _ in message["headers"]}
    policy = DOCS_CSP if scope["path"] == "/docs" else CSP
    for name, value in (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ):
        if name not in names:
            message["headers"] = [*message["headers"], (name, value)]

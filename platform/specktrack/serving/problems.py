"""Errors as ``application/problem+json`` (RFC 9457): what a class of error is to an HTTP client."""

import errno
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.context import _get_serve_request_context
from ray.serve.exceptions import RequestCancelledError

from specktrack.config import Config
from specktrack.errors import (
    CheckpointError,
    ConfigError,
    Conflict,
    MediaError,
    QuarantineReason,
    SpecktrackError,
    StorageError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
"""Seconds until a busy server is asked again, where nothing is measured."""
FULL = (errno.ENOSPC, errno.EDQUOT)


class Problem(Config):
    """A problem, for people and programs."""

    type: str = "about:blank"
    title: str
    """The status in words."""
    status: int
    detail: str
    """One sentence with value, place and remedy."""
    reason: str | None = None
    """Why a clip cannot be used: one of the reasons for quarantine."""
    request_id: str | None = None
    """The request's id in the server's log."""
    retry_after_s: int | None = None
    """Seconds after which a busy server is worth asking again, as measured; also in Retry-After."""


class Refusal(SpecktrackError):
    """A request that is refused with a status of its own."""

    def __init__(
        self,
        status: int,
        what: str,
        value: object = None,
        place: str = "",
        remedy: str = "",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(what, value, place, remedy)
        self.args = (status, what, value, place, remedy, retry_after_s)  # what pickle hands back to __init__
        self.status, self.retry_after_s = status, retry_after_s


class LongerThanAllowed(SpecktrackError):
    """A clip whose rows would come too late, as its first frames show."""

    def __init__(self, estimate_s: float, most_s: float) -> None:
        super().__init__(f"the clip would take about {estimate_s:.0f} s, and this server allows {most_s:g} s")
        self.args = (estimate_s, most_s)  # what pickle hands back to __init__


def request_id() -> str:
    """The id of the request at work, the same in the ingress and in every replica that it calls; empty outside one."""
    return _get_serve_request_context().request_id[:100]


def cause_of(error: BaseException) -> BaseException:
    """The error that a replica raised, out of what Ray wrapped it in."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException) and error.cause is not error:
        error = error.cause
    return error


def problem_of(error: BaseException) -> Problem:
    """The problem that tells a client of an error; what nobody foresaw tells nothing of its inside."""
    error = cause_of(error)
    status, reason = _status(error), None
    detail = str(error)
    if isinstance(error, MediaError):
        reason = str(error.reason)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE and not isinstance(error, SpecktrackError):
        detail = "the server is busy; try again shortly"
    elif isinstance(error, TimeoutError):
        detail = "the clip took longer than the server allows; send a shorter one, or submit it as a batch"
    elif status == HTTPStatus.INSUFFICIENT_STORAGE:
        detail = "the server's disk is full; try again later, or send a smaller clip"
    elif status == HTTPStatus.INTERNAL_SERVER_ERROR:
        detail = "internal server error; the server's log has the details under the request's id"
    phrase = HTTPStatus(status).phrase
    retry_after_s = None
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = getattr(error, "retry_after_s", None) or RETRY_AFTER_S
    return Problem(
        title=phrase, status=status, detail=detail, reason=reason, request_id=request_id() or None,
        retry_after_s=retry_after_s,
    )  # fmt: skip


def headers_of(problem: Problem) -> Mapping[str, str]:
    """Headers of a problem's answer."""
    if problem.retry_after_s is not None:
        return {"Retry-After": str(problem.retry_after_s)}
    return {"WWW-Authenticate": "Bearer"} if problem.status == HTTPStatus.UNAUTHORIZED else {}


def _status(error: BaseException) -> int:
    match error:
        case Refusal():
            return error.status
        case LongerThanAllowed():
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case MediaError(reason=QuarantineReason.TOO_LARGE):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        case MediaError() | ConfigError():
            return HTTPStatus.UNPROCESSABLE_ENTITY
        case CheckpointError():
            return HTTPStatus.NOT_FOUND
        case Conflict():
            return HTTPStatus.CONFLICT
        case StorageError() | RayActorError():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case RequestCancelledError():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case TimeoutError():
            return HTTPStatus.GATEWAY_TIMEOUT
        case OSError(errno=number) if number in FULL:
            return HTTPStatus.INSUFFICIENT_STORAGE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of the problems that a route may answer with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}

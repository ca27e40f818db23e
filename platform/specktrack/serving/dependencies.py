"""Dependencies of routes: a key, known parameters only, a valid body, a temporary folder."""

import difflib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from pydantic import ValidationError

from specktrack.config import explain
from specktrack.serving import uploads
from specktrack.serving.gateway import Gateway
from specktrack.serving.problems import Refusal


async def _own_folder() -> AsyncIterator[Path]:
    """A folder for what a request brings, removed once it is answered: that takes a millisecond."""
    with tempfile.TemporaryDirectory(prefix="specktrack-") as folder:
        yield Path(folder)


OwnFolder = Annotated[Path, Depends(_own_folder)]


def checked(gateway: Gateway) -> Callable[..., Coroutine[Any, Any, None]]:
    """The dependency that asks for a key and refuses unknown parameters; the WebSocket does so itself."""
    bearer = HTTPBearer(auto_error=False, description="A key from the server's api_keys_file, if it has one.")

    async def check(request: Request, _: Annotated[Any, Depends(bearer)]) -> None:
        gateway.keys.check(request.headers.get("authorization"))
        operation = request.app.openapi()["paths"][request.scope["route"].path][request.method.lower()]
        known = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
        for name in request.query_params:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                what = f"unknown key {name!r} in the query"
                remedy = f"{hint}allowed: {', '.join(sorted(known)) or 'none'}"
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, what, remedy=remedy)

    return check


def validated(kind: type[Any], value: Any) -> Any:
    """``kind`` of what a body holds; Refusal(422) with a sentence per problem."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, explain(error, kind)) from None


def unsupported(request: Request, wanted: str) -> Refusal:
    """The refusal of a body of another kind."""
    kind = uploads.media_type_of(request)
    return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "no such Content-Type here", kind, remedy=f"send {wanted}")

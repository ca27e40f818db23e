"""Which folders and prefixes a request may name."""

import os
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

from specktrack.errors import ConfigError
from specktrack.serving.problems import Refusal
from specktrack.storage import local_path, to_uri

MOST_NAME_BYTES = 255
"""Longest part of a path that file systems allow, bytes."""


def allowed_place(place: str, roots: Sequence[str], what: str) -> str:
    """The URI of a place below one of ``roots``; a relative one is below the first. Refusal(403) for any other."""
    if not roots:
        raise Refusal(HTTPStatus.FORBIDDEN, f"this server has no {what} set up", remedy="ask its operator")
    if place.startswith("@") or "\0" in place:
        raise Refusal(HTTPStatus.FORBIDDEN, "a list of sources cannot be named here", place, remedy="send its lines")
    absolute = place if "://" in place or place.startswith("/") else f"{roots[0].rstrip('/')}/{place}"
    try:
        uri = to_uri(absolute)
        named = all(len(part.encode()) <= MOST_NAME_BYTES for part in place.split("/"))
        allowed = named and any(is_below(uri, root) for root in roots)
    except (ConfigError, OSError, ValueError):  # no place at all, or a name that no file can have
        raise Refusal(HTTPStatus.FORBIDDEN, f"not one of the server's {what}", place) from None
    if not allowed:
        raise Refusal(HTTPStatus.FORBIDDEN, f"not below one of the server's {what}", place, remedy="ask its operator")
    return uri


def name_below(uri: str, roots: Sequence[str]) -> str:
    """The public name of a place: its path below its root."""
    for root in roots:
        root_uri = to_uri(root).rstrip("/")
        if uri.startswith(f"{root_uri}/"):
            return unquote(uri.removeprefix(f"{root_uri}/"))
    return uri


def without_roots(text: str, roots: Sequence[str]) -> str:
    """A message without the paths of the server's own folders."""
    for root in roots:
        for known in (to_uri(root).rstrip("/"), root.rstrip("/")):
            text = text.replace(f"{known}/", "")
    return text


def is_below(uri: str, root: str) -> bool:
    """Whether a URI is a root or lies below it, links followed."""
    root_uri = to_uri(root).rstrip("/")
    path, root_path = local_path(uri), local_path(root_uri)
    if path is None or root_path is None:
        return path is root_path and (uri == root_uri or uri.startswith(f"{root_uri}/")) and "/../" not in f"{uri}/"
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root_path))  # Path.resolve() chokes on loops

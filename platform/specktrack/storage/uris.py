"""How a place is spelled, there and back.

A ``file://`` URI is absolute and percent-encoded. An ``s3://bucket/key`` URI holds the key as S3 knows it, unencoded:
both carry any name (spaces, newlines, any script).
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from specktrack.errors import ConfigError


def to_uri(path_or_uri: str) -> str:
    """The one spelling of a place: ``file://``, absolute and percent-encoded, or ``s3://`` unchanged.

    A trailing slash stays. ConfigError for a scheme that is not supported, and for an empty text; what follows a ``?``
    in an address of the web may be a signature, and is not shown.
    """
    if not path_or_uri.strip():  # which would otherwise be the current folder
        raise ConfigError("an empty path", path_or_uri, remedy="give a path or s3://bucket/prefix")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path_or_uri)
    if scheme is None:
        path = absolute(path_or_uri)
    elif scheme[1] == "file" and urlsplit(path_or_uri).netloc in ("", "localhost"):
        path = absolute(os.fsdecode(unquote_to_bytes(path_or_uri.removeprefix("file://").removeprefix("localhost"))))
    elif scheme[1] == "s3" and (bucket := path_or_uri[5:].partition("/")[0]):
        if "@" in bucket:
            raise ConfigError("an S3 URI must not contain credentials", remedy="set AWS_PROFILE or the AWS_ variables")
        return path_or_uri
    else:
        raise ConfigError(
            "cannot read from or write to this",
            re.split(r"[?#]", path_or_uri)[0],
            remedy="give a path or s3://bucket/prefix",
        )
    return path.as_uri() + ("/" if path_or_uri.endswith("/") and path != Path("/") else "")


def absolute(path: str | Path) -> Path:
    """Absolute and without ``..``; links are kept, because a video's name is the one its owner gave it.

    ``~`` is the home folder; any other name that begins so is a name.
    """
    home = str(path) == "~" or str(path).startswith("~/")
    return Path(os.path.normpath((Path(path).expanduser() if home else Path(path)).absolute()))


def local_path(uri: str) -> Path | None:
    """The path behind a ``file://`` URI (or a plain path); None for S3."""
    uri = to_uri(uri)
    if uri.startswith("s3://"):
        return None
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key. Not by urlsplit, which drops newlines and ends the path at ``?`` or ``#``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key

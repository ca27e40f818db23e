"""A bucket, or a prefix in it, as a store; importing this loads boto3."""

import functools
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from specktrack.errors import Conflict, StorageError
from specktrack.storage.store import MissingError, ObjectInfo, checked_key, verified
from specktrack.storage.uris import split_s3, to_uri

BODY_TRIES = 4
"""Tries for an answer whose body breaks off; the requests themselves are retried by botocore."""


class S3Store:
    """A bucket or a prefix in it, on Amazon S3 or any server that speaks its protocol with conditional PUT."""

    def __init__(self, uri: str) -> None:
        self.uri = to_uri(uri).rstrip("/")
        self._bucket, self._prefix = split_s3(self.uri)
        if self._prefix:
            self._prefix += "/"

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    def uri_of(self, key: str) -> str:
        """The object's ``s3://`` URI."""
        return f"{self.uri}/{checked_key(key)}"

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """See Store."""
        return verified(get_object(self.uri_of(key), **self._at(key)), sha256, self.uri_of(key))

    def exists(self, key: str) -> bool:
        """See Store."""
        return head(self.uri_of(key)) is not None

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        with _errors(self.uri_of(key)):
            _client().put_object(**self._at(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """See Store. A PUT whose answer was lost is repeated by the client and then conflicts with itself."""
        with _errors(self.uri_of(key)):
            _client().put_object(**self._at(key), Body=data, IfNoneMatch="*")

    def put_file(self, key: str, path: Path) -> None:
        """See Store. Large files go up in parts; a failed upload leaves no parts behind."""
        with _errors(self.uri_of(key)):
            _client().upload_file(str(path), *self._at(key).values())

    def delete(self, key: str) -> None:
        """See Store."""
        with _errors(self.uri_of(key)):
            _client().delete_object(**self._at(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store."""
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        with _errors(f"{self.uri}/{prefix}"):
            for page in pages:
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if key and not key.endswith("/"):  # consoles make empty objects as folders
                        yield ObjectInfo(key, item["Size"], item["ETag"].strip('"'), item["LastModified"].timestamp())

    def clear_unfinished(self, *, older_than_s: float) -> int:
        """See Store: multipart uploads, whose parts are paid for and not listed."""
        begun = _client().get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        cleared, before_s = 0, time.time() - older_than_s
        with _errors(self.uri):
            for page in begun:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"].timestamp() < before_s:
                        _client().abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        cleared += 1
        return cleared


def _client() -> Any:
    """The S3 client for the AWS settings of this moment (one per process and setting; clients are thread-safe)."""
    return _make_client(tuple(sorted((name, text) for name, text in os.environ.items() if name.startswith("AWS_"))))


@functools.lru_cache(maxsize=4)
def _make_client(settings: tuple[tuple[str, str], ...]) -> Any:
    attempts = int(dict(settings).get("AWS_MAX_ATTEMPTS", "8"))  # with jitter up to 20 s: outlasts a 30 s outage
    with _errors("AWS settings"):
        return boto3.session.Session().client(
            "s3",
            config=ClientConfig(
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=32,
                tcp_keepalive=True,
            ),
        )


_REMEDIES = {
    301: "set AWS_REGION to the bucket's region",
    400: "check AWS_REGION and the credentials",
    401: "check the credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
    403: "check the credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and the bucket's policy",
    404: "check the bucket's name, the key and AWS_ENDPOINT_URL",
}


@contextmanager
def _errors(place: str) -> Iterator[None]:
    """Turn the client's errors, after its retries, into ours; 412 and 409 mean that another writer was first."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status in (409, 412):
            raise Conflict("another writer was first", place=place) from None
        code = error.response.get("Error", {}).get("Code", "")
        remedy = _REMEDIES.get(status, "it stayed so after retries; run the same command again later")
        kind = MissingError if status == 404 else StorageError
        raise kind(f"S3 answered {status} {code}".rstrip(), place=place, remedy=remedy) from None
    except (BotoCoreError, Boto3Error, ValueError) as error:
        text = re.sub(r"//[^/@\s]*@", "//", str(error))  # an endpoint may carry a password
        raise StorageError(
            f"S3 cannot be used: {text}", place=place, remedy="check the AWS settings and AWS_ENDPOINT_URL"
        ) from None


def get_object(place: str, **request: str) -> bytes:
    """GET an object or a range of it; a body that breaks off or fails its checksum is asked for again."""
    for attempt in range(BODY_TRIES):
        with _errors(place):
            body = _client().get_object(**request)["Body"]
            try:
                return body.read()
            except BotoCoreError:
                if attempt == BODY_TRIES - 1:
                    raise
        time.sleep(random.uniform(0, 0.2 * 2**attempt))
    raise AssertionError("the last try returns or raises")


def head(uri: str) -> ObjectInfo | None:
    """The object at a URI; None if it is not there."""
    bucket, key = split_s3(uri)
    try:
        with _errors(uri):
            found = _client().head_object(Bucket=bucket, Key=key)
    except MissingError:
        return None
    return ObjectInfo(key, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"].timestamp())

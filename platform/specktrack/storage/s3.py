"""A bucket, or a prefix in it, as a store; importing this loads boto3."""

import functools
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config as ClientConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from specktrack.errors import ConfigError, Conflict, StorageError
from specktrack.storage.store import (
    WITHOUT_CONDITIONS,
    MissingError,
    ObjectInfo,
    RefusedError,
    checked_key,
    new_probe,
    put_alone,
    verified,
)
from specktrack.storage.uris import split_s3, to_uri

PAUSES_S = (0.5, 2.0, 8.0, 20.0, 20.0, 20.0, 20.0)
"""Before the second to the eighth try, each shortened by up to two fifths, so that clients do not come back together.
After an outage of 30 s three tries are left."""
PART_BYTES = 16 * 2**20
PARTS_AT_ONCE = 4
MOST_PARTS = 10_000
"""Of one object on S3."""

T = TypeVar("T")


class S3Store:
    """A bucket or a prefix in it, on Amazon S3 or any server that speaks its protocol with conditional PUT."""

    def __init__(self, uri: str, *, single_writer: bool = False) -> None:
        self.uri, self.single_writer = to_uri(uri).rstrip("/"), single_writer
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

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See Store."""
        return get_object(self.uri_of(key), **self._at(key), Range=f"bytes={start}-{stop - 1}")

    def exists(self, key: str) -> bool:
        """See Store."""
        return head(self.uri_of(key)) is not None

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        _request(self.uri_of(key), "put_object", **self._at(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """See Store. A PUT whose answer was lost is repeated and then conflicts with itself."""
        if self.single_writer:
            return put_alone(self, key, data)
        _request(self.uri_of(key), "put_object", **self._at(key), Body=data, IfNoneMatch="*")
        return None

    def put_file(self, key: str, path: Path) -> None:
        """See Store. Large files go up in parts, of which each is tried again; a failed upload leaves none behind."""
        size_bytes = path.stat().st_size
        if size_bytes <= PART_BYTES:
            return self.put(key, path.read_bytes())
        place, at = self.uri_of(key), self._at(key)
        part_bytes = max(PART_BYTES, -(-size_bytes // MOST_PARTS))
        summed = _client().meta.config.request_checksum_calculation == "when_supported"
        algorithm = {"ChecksumAlgorithm": "CRC32"} if summed else {}
        upload = at | {"UploadId": _request(place, "create_multipart_upload", **at, **algorithm)["UploadId"]}

        def send(number: int) -> dict[str, Any]:
            with path.open("rb") as file:
                file.seek((number - 1) * part_bytes)
                body = file.read(part_bytes)
            sent = _request(place, "upload_part", **upload, **algorithm, PartNumber=number, Body=body)
            return {"PartNumber": number} | {name: sent[name] for name in ("ETag", "ChecksumCRC32") if name in sent}

        try:
            with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
                parts = list(pool.map(send, range(1, -(-size_bytes // part_bytes) + 1)))
            _request(place, "complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(StorageError):  # what went wrong is what the caller must hear
                _request(place, "abort_multipart_upload", **upload)
            raise

    def delete(self, key: str) -> None:
        """See Store."""
        _request(self.uri_of(key), "delete_object", **self._at(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store."""
        place, onwards = f"{self.uri}/{prefix}", {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        while True:
            page = _request(place, "list_objects_v2", **onwards)
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._prefix)
                if key and not key.endswith("/"):  # consoles make empty objects as folders
                    yield _info(key, item, item["Size"])
            if not page.get("IsTruncated"):
                return
            onwards["ContinuationToken"] = page["NextContinuationToken"]

    def now_s(self) -> float:
        """See Store. Asked of an object that is made for it."""
        probe = new_probe()
        self.put(probe, b"")
        try:
            found = head(self.uri_of(probe))
            assert found is not None
            return found.modified_s
        finally:
            self.delete(probe)

    def clear_unfinished(self, *, older_than_s: float, uploads_below: str = "") -> int:
        """See Store: multipart uploads, whose parts are paid for and not listed."""
        cleared, before_s = 0, self.now_s() - older_than_s
        onwards = {"Bucket": self._bucket, "Prefix": self._prefix + uploads_below}
        while True:
            page = _request(self.uri, "list_multipart_uploads", **onwards)
            for upload in page.get("Uploads", ()):
                if upload["Initiated"].timestamp() < before_s:
                    named = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    _request(self.uri, "abort_multipart_upload", **named)
                    cleared += 1
            if not page.get("IsTruncated"):
                return cleared
            onwards |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _client() -> Any:
    """The S3 client for the AWS settings of this moment (one per process and setting; clients are thread-safe)."""
    settings = ((name, text) for name, text in os.environ.items() if name.startswith("AWS_"))
    return _make_client(tuple(sorted(settings)))


@functools.lru_cache(maxsize=4)
def _make_client(_: tuple[tuple[str, str], ...]) -> Any:
    with _errors("AWS settings"):
        return boto3.session.Session().client(
            "s3",
            config=ClientConfig(
                # trying again is done here: its own pauses add up to four seconds
                retries={"mode": "standard", "total_max_attempts": 1},
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
    501: WITHOUT_CONDITIONS,
}
_PASSING_CODES = ("RequestTimeout", "SlowDown", "Throttling", "ThrottlingException")
_OUR_OWN_FAULTS = (
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "ExpiredToken", "InvalidToken"
)  # fmt: skip
"""Answered 403 as well, whatever object is asked for."""
_PASSING = (HTTPClientError, BotoConnectionError, IncompleteReadError, ResponseStreamingError, FlexibleChecksumError)


class _PassingError(StorageError):
    """It may go well the next time."""


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
        passing = status in (429, 500, 502, 503, 504) or code in _PASSING_CODES
        refused = status == 403 and code not in _OUR_OWN_FAULTS
        kind = (
            MissingError if status == 404 else _PassingError if passing else RefusedError if refused else StorageError
        )
        raise kind(f"S3 answered {status} {code}".rstrip(), place=place, remedy=remedy) from None
    except (BotoCoreError, Boto3Error, ValueError) as error:
        text = re.sub(r"//[^/@\s]*@", "//", str(error))  # an endpoint may carry a password
        raise (_PassingError if isinstance(error, _PASSING) else StorageError)(
            f"S3 cannot be used: {text}", place=place, remedy="check the AWS settings and AWS_ENDPOINT_URL"
        ) from None


def get_object(place: str, **request: str) -> bytes:
    """GET an object or a range of it; a body that breaks off or fails its checksum is asked for again."""
    body: bytes = _request(place, "get_object", **request)["Body"]
    return body


def _request(place: str, operation: str, **request: Any) -> dict[str, Any]:
    """One request, with a body read to its end."""

    def call() -> dict[str, Any]:
        answer: dict[str, Any] = getattr(_client(), operation)(**request)
        return answer | {"Body": answer["Body"].read()} if "Body" in answer else answer

    return _insist(place, call)


def _insist(place: str, call: Callable[[], T]) -> T:
    """Do what may fail for a while, AWS_MAX_ATTEMPTS times (8) in all."""
    for pause_s in PAUSES_S[: _most_attempts() - 1]:
        try:
            with _errors(place):
                return call()
        except _PassingError:
            time.sleep(pause_s * random.uniform(0.6, 1.0))
    with _errors(place):
        return call()


def _most_attempts() -> int:
    text = os.environ.get("AWS_MAX_ATTEMPTS", str(len(PAUSES_S) + 1))
    if re.fullmatch("0*[1-9][0-9]{0,8}", text) is None:
        raise ConfigError("not a number of attempts", text, "AWS_MAX_ATTEMPTS", "set it to 1 or more, or unset it")
    return int(text)


def _info(key: str, said: dict[str, Any], size_bytes: int) -> ObjectInfo:
    return ObjectInfo(key, size_bytes, said["ETag"].strip('"'), said["LastModified"].timestamp())


def head(uri: str) -> ObjectInfo | None:
    """The object at a URI; None if it is not there."""
    bucket, key = split_s3(uri)
    try:
        found = _request(uri, "head_object", Bucket=bucket, Key=key)
    except MissingError:
        return None
    return _info(key, found, found["ContentLength"])

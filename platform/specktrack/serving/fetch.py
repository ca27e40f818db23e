"""Fetching a clip that a caller names by URL, without being sent where only the server can go.

A name is allowed by the host list; then it is resolved once, every address it has must be allowed, and the connection
is made to the address that was checked, so that a second answer of the name server changes nothing. Each redirect is
checked like the first URL. No proxies, no credentials in the URL, no cookies, no compression.
"""

import contextlib
import http.client
import ipaddress
import socket
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from specktrack.errors import ConfigError, StorageError
from specktrack.serving.config import Access, Limits
from specktrack.serving.problems import FULL, Refusal
from specktrack.video.live import DEVICES, SCHEMES, Pinned, Target

MOST_REDIRECTS = 5
CHUNK_BYTES = 1 << 18
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PUBLIC_6 = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out; outside of it lies what leads to a network's own IPv4 (64:ff9b:1::/48)."""
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")))
"""Networks that Python 3.11 takes for public: clouds' metadata (192.0.0.192, 168.63.129.16), relays, documentation."""


def fetch(url: str, path: Path, access: Access, limits: Limits) -> None:
    """Write the bytes behind a URL to ``path``.

    Refusal(403) for a URL that may not be fetched, Refusal(413) beyond the limit, StorageError if the host fails.
    """
    deadline = time.monotonic() + limits.upload_s
    for _ in range(MOST_REDIRECTS + 1):
        target = check(url, access)
        with answered(target, limits.stall_s) as answer:
            if answer.status in _REDIRECTS and (place := answer.getheader("Location")):
                url = urljoin(url, place)
                continue
            if answer.status != HTTPStatus.OK:
                raise ConfigError("the host did not return the clip", answer.status, target.host, "check the URL")
            _save(answer, path, limits, deadline)
            return
    raise Refusal(HTTPStatus.FORBIDDEN, f"more than {MOST_REDIRECTS} redirects", place=target.host)


def check(url: str, access: Access) -> Target:
    """A URL that may be fetched, resolved; Refusal(403) says why it may not be."""
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise _refused("a URL with blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("not a URL") from None
    if parts.scheme not in access.schemes:
        raise _refused(f"only {', '.join(access.schemes)} URLs are fetched", parts.scheme)
    host = (parts.hostname or "").rstrip(".")
    if not host or "@" in parts.netloc or "%" in host:
        raise _refused("a URL names a host, and no user")
    named = {host} if port in (None, SCHEMES[parts.scheme]) else {f"{host}:{port}"}
    if not named & set(access.hosts):
        raise _refused("this host is not on the server's list", host)
    port = port or SCHEMES[parts.scheme]
    return Target(parts, host, port, _addresses(host, port, access))


def camera(place: str, access: Access) -> Target | None:
    """Where a camera's address leads, checked as a clip's; None for a device. Refusal(403) for what is not listed."""
    if place.startswith(DEVICES):
        if place not in access.devices:
            raise _refused("this device is not on the server's list", place)
        return None
    url = urlsplit(place)
    without_user = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
    found = check(without_user, access.model_copy(update={"hosts": access.cameras, "schemes": tuple(SCHEMES)}))
    return found._replace(url=url)


def is_allowed(address: str, access: Access) -> bool:
    """Whether an address lies on the public internet, or in a network that the server's list adds."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_allowed(str(inner), access)
    if any(ip in ipaddress.ip_network(network) for network in access.networks):
        return True
    if any(ip in network for network in _NOT_PUBLIC) or (ip.version == 6 and ip not in _PUBLIC_6):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _addresses(host: str, port: int, access: Access) -> tuple[str, ...]:
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise ConfigError("no such host", host, remedy="check the URL") from None
    if not found or not all(is_allowed(address, access) for address in found):
        raise _refused("this host has an address that must not be fetched from", host)
    return tuple(found)


def _refused(what: str, value: object = None) -> Refusal:
    return Refusal(HTTPStatus.FORBIDDEN, what, value, remedy="send the clip itself, or ask the server's operator")


@contextlib.contextmanager
def answered(
    target: Target, stall_s: float, *, sent: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Iterator[http.client.HTTPResponse]:
    """The answer of a checked host to GET, or to POST of what is ``sent``; StorageError if it fails."""
    connection = Pinned(target, stall_s)
    path = (target.url.path or "/") + (f"?{target.url.query}" if target.url.query else "")
    own = {"Accept-Encoding": "identity", "User-Agent": "specktrack", **(headers or {})}
    try:
        connection.request("GET" if sent is None else "POST", path, sent, own)
        yield connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL:  # the fault is this machine's
            raise
        what = "the host gave an invalid answer"
        raise StorageError(what, type(error).__name__, target.host, "try again, or upload the clip") from None
    finally:
        connection.close()


def _save(answer: http.client.HTTPResponse, path: Path, limits: Limits, deadline: float) -> None:
    """Write the body; a length that is announced beyond the limit is refused before it is read."""
    total, announced = 0, answer.getheader("Content-Length") or "0"
    if announced.isdigit() and int(announced) > limits.body_bytes:
        raise too_large(limits.body_bytes)
    with path.open("wb") as file:
        while chunk := answer.read1(CHUNK_BYTES):
            total += len(chunk)
            if total > limits.body_bytes:
                raise too_large(limits.body_bytes)
            if time.monotonic() > deadline:
                raise Refusal(HTTPStatus.GATEWAY_TIMEOUT, f"the clip did not come within {limits.upload_s:g} s")
            file.write(chunk)
    if announced.isdigit() and total < int(announced):
        raise StorageError("the download broke off", f"{total} of {announced} bytes", remedy="try again")


def too_large(most_bytes: int, what: str = "a clip", remedy: str = "cut it, or make it a batch") -> Refusal:
    """The refusal of what is larger than may be."""
    said = f"{what} of more than {most_bytes:,} bytes"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said, remedy=remedy)

"""Access: keys, compared in constant time and never logged."""

import hashlib
import hmac
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

from specktrack.errors import ConfigError
from specktrack.serving.config import is_public
from specktrack.serving.problems import Refusal

FEWEST_KEY_CHARACTERS = 16
SUBPROTOCOL = "bearer."
"""Browsers cannot set headers on a WebSocket: there the key is a subprotocol with this prefix."""


class Keys:
    """The keys of a server; none means that everyone who reaches it may call."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: str | None) -> "Keys":
        """The keys in a file, one per line; ConfigError if it holds none, or one that could be guessed."""
        if path is None:
            return cls(())
        try:
            lines = Path(path).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("cannot read the file of API keys", str(error), path) from None
        if not lines or min(map(len, lines)) < FEWEST_KEY_CHARACTERS:
            what = f"a file of API keys needs one key of at least {FEWEST_KEY_CHARACTERS} characters per line"
            raise ConfigError(what, place=path, remedy="create one with: openssl rand -hex 32")
        return cls(lines)

    def check(self, authorization: str | None) -> None:
        """Refusal(401) unless an ``Authorization`` header holds one of the keys."""
        if not self._digests:
            return
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip() if scheme.lower() == "bearer" else "")
        matches = [hmac.compare_digest(given, known) for known in self._digests]  # all, so that time tells nothing
        if not any(matches):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "a valid key is needed", remedy="send 'Authorization: Bearer KEY'")

    def check_websocket(self, authorization: str | None, subprotocols: Iterable[str]) -> str | None:
        """As check, also with a key offered as subprotocol ``bearer.KEY``; the subprotocol to accept."""
        for offered in subprotocols:
            if offered.startswith(SUBPROTOCOL):
                self.check("Bearer " + offered.removeprefix(SUBPROTOCOL))
                return offered
        self.check(authorization)
        return None


def is_of_this_machine(host: str) -> bool:
    """Whether a ``Host`` header names this machine as only programs on it do.

    A page of another site can have its own name resolve to 127.0.0.1; then it is of one origin with a server there.
    """
    name = host.rsplit("]", 1)[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return not is_public(name)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()

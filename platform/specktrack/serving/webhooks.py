"""Webhooks: notify a host on the server's list that a batch has ended.

    POST <webhook>                                 the batch as GET /v1/batches/{id} says it
    Specktrack-Timestamp: 1764444000               seconds since 1970
    Specktrack-Signature: sha256=<hex>             HMAC of "<timestamp>.<body>" with the secret of webhook_key_file

Who receives it computes the same and compares in constant time; an old timestamp is a repeated message.
"""

import hashlib
import hmac
import time
from pathlib import Path

from specktrack import telemetry
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.serving.access import FEWEST_KEY_CHARACTERS
from specktrack.serving.answers import Batch
from specktrack.serving.config import Access
from specktrack.serving.fetch import Target, answered, check

PAUSES_S = (1.0, 5.0, 25.0)
"""Before it is tried again."""
STALL_S = 10.0

log = telemetry.get_logger()


def checked(url: str, access: Access) -> Target:
    """A webhook that may be told; Refusal(403) says why it may not be."""
    return check(url, access.model_copy(update={"hosts": access.webhooks}))


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of Specktrack-Signature."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def secret_in(place: str | None) -> bytes:
    """The secret that signs; ConfigError if there is none, or one that could be guessed."""
    try:
        secret = Path(place or "").read_bytes().strip()
    except OSError as error:
        raise ConfigError("cannot read the webhook secret", error.strerror, place or "") from None
    if len(secret) < FEWEST_KEY_CHARACTERS:
        what = f"the webhook secret needs at least {FEWEST_KEY_CHARACTERS} characters"
        raise ConfigError(what, place=place or "", remedy="create one with: openssl rand -hex 32")
    return secret


def tell(url: str, batch: Batch, access: Access) -> None:
    """Tell of a batch's end, a few times if need be; a host that does not listen is no fault of the batch."""
    body = batch.model_dump_json().encode()
    for pause_s in (*PAUSES_S, None):
        try:
            timestamp, secret = str(int(time.time())), secret_in(access.webhook_key_file)
            headers = {
                "Content-Type": "application/json", "Specktrack-Timestamp": timestamp,
                "Specktrack-Signature": signature(secret, timestamp, body),
            }  # fmt: skip
            with answered(checked(url, access), STALL_S, sent=body, headers=headers) as answer:
                status = answer.status
            said = f"status {status}"
        except SpecktrackError as error:
            status, said = 0, str(error)
        if 200 <= status < 300:
            log.info("webhook delivered", batch=batch.id)
            return
        log.warning("webhook not delivered", batch=batch.id, error=said, again_in_s=pause_s)
        if pause_s is not None:
            time.sleep(pause_s)

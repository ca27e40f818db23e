"""moto's S3 server without conditional writes, as some servers are.

python -m tests.careless_s3 ignores     If-None-Match is not looked at
python -m tests.careless_s3 busy        each such request is answered with 409, for ever
"""

import sys
from typing import Any

from moto.s3.responses import S3Response
from tests.s3_server import serve
from werkzeug.datastructures import Headers

put_object = S3Response.put_object


BUSY = "<Error><Code>ConditionalRequestConflict</Code><Message>another request is at work on this key</Message></Error>"


def careless(self: S3Response) -> Any:
    """Put an object whatever the condition says."""
    if self.headers.get("If-None-Match") and sys.argv[1] == "busy":
        return 409, {}, BUSY
    self.headers = Headers([(name, text) for name, text in self.headers.items() if name != "If-None-Match"])
    return put_object(self)


if __name__ == "__main__":
    S3Response.put_object = careless  # type: ignore[method-assign]
    serve()

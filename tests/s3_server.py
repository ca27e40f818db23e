"""moto's S3 server, which says on which port it listens: ``python -m tests.s3_server``."""

import threading
from typing import Any

from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

put_object_of_moto, one_at_a_time = S3Response.put_object, threading.Lock()


def put_object(self: S3Response) -> Any:
    """moto looks whether a key is free and writes it a moment later; S3 lets nobody in between."""
    with one_at_a_time:
        return put_object_of_moto(self)


S3Response.put_object = put_object  # type: ignore[method-assign]


def serve() -> None:
    """Print the port, and answer until this process is ended."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)  # noqa: T201
    threading.Event().wait()


if __name__ == "__main__":
    serve()

"""moto's S3 server, which says on which port it listens: ``python -m tests.s3_server``."""

import sys

from moto.server import ThreadedMotoServer


def serve() -> None:
    """Print the port, and answer until this process is ended."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)  # noqa: T201
    sys.stdout.close()
    server._thread.join()  # type: ignore[union-attr]


if __name__ == "__main__":
    serve()

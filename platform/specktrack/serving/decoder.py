"""The decoding processes: ``python -m specktrack.serving.decoder FD`` is a parent that forks one child per clip.

Starting Python and loading the decoders takes a third of a second, a fork 3 ms. The parent itself never reads media; a
child gives up its rights (sandbox), reads one clip or the pictures of one stream, and is ended. Messages are a length,
a JSON header and, where the header says so, raw bytes; nothing is pickled.

    clip       <- {"clip": path, "limits": ...}   -> {"info": ...}
               <- {"network_wh": [w, h]}          -> {"first": frame, "pts_s": [...], "bytes": n} pixels, ...
                                                  -> {"decode_errors": n, "end": true}
    pictures   <- {"picture": bytes, "network_wh": null or [w, h], "limits": ...} encoded picture
                                                  -> {"source_wh": [w, h], "bytes": n} pixels
    a fault                                       -> {"fault": [reason, what]}
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from specktrack.errors import MediaError, QuarantineReason, SpecktrackError
from specktrack.frames import Viewport
from specktrack.schema import Clip
from specktrack.storage import stat
from specktrack.video import probe, read_clip
from specktrack.video.folder import scaled
from specktrack.video.sandbox import confine

PICTURE_FORMATS = ("JPEG", "PNG")
_LENGTH = 4


def send(out: BinaryIO, header: Mapping[str, Any], payload: memoryview | bytes = b"") -> None:
    """Write one message."""
    text = json.dumps(header).encode()
    out.write(len(text).to_bytes(_LENGTH, "little") + text)
    out.write(payload)
    out.flush()


def receive(source: BinaryIO) -> dict[str, Any] | None:
    """The next message's header; None at the end."""
    length = source.read(_LENGTH)
    if len(length) < _LENGTH:
        return None
    return json.loads(source.read(int.from_bytes(length, "little")))


def main() -> None:
    """Fork a child for each pair of pipes that comes through the socket; kill and bury the ones that are done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the server ends us
    requests = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, pipes, _, _ = socket.recv_fds(requests, 64, 2)
        if not message:
            return
        word, _, number = message.partition(b" ")
        if word == b"end":
            os.kill(int(number), signal.SIGKILL)
            os.waitpid(int(number), 0)
            continue
        child = os.fork()
        if child == 0:
            requests.close()
            _serve(*pipes)
        for pipe in pipes:
            os.close(pipe)
        requests.send(str(child).encode())


def _serve(incoming: int, outgoing: int) -> None:
    """Answer requests until the pipe ends; a child never returns."""
    try:
        with os.fdopen(incoming, "rb") as source, os.fdopen(outgoing, "wb") as out:
            confined = False
            while (request := receive(source)) is not None:
                if not confined:
                    limits = request["limits"]
                    confine(memory_bytes=limits["memory_bytes"], cpu_s=limits["cpu_s"])
                    confined = True
                try:
                    _clip(request, source, out) if "clip" in request else _picture(request, source, out)
                except MediaError as error:
                    send(out, {"fault": [str(error.reason), error.what]})
                except SpecktrackError as error:
                    send(out, {"fault": [str(QuarantineReason.NOT_A_VIDEO), str(error)]})
                except MemoryError:
                    send(out, {"fault": [str(QuarantineReason.TOO_LARGE), "decoding takes more memory than allowed"]})
    finally:
        os._exit(0)


def _clip(request: Mapping[str, Any], source: BinaryIO, out: BinaryIO) -> None:
    limits, ref = request["limits"], stat(request["clip"])
    info = probe(ref)
    if info.width_px * info.height_px > limits["pixels"]:
        raise MediaError(QuarantineReason.TOO_LARGE, f"a picture has more than {limits['pixels']:,} pixels")
    if info.frames > limits["frames"]:
        raise MediaError(QuarantineReason.TOO_LARGE, f"the clip has {info.frames:,} frames, over {limits['frames']:,}")
    send(out, {"info": info.model_dump(mode="json")})
    answer = receive(source)
    if answer is None:
        return
    width, height = answer["network_wh"]
    viewport = Viewport(info.size_wh_px, (width, height))
    with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info, viewport=viewport) as reader:
        for batch in reader:
            header = {"first": int(batch.frame[0]), "pts_s": batch.pts_s.tolist(), "bytes": batch.pixels.nbytes}
            send(out, header, np.ascontiguousarray(batch.pixels).data.cast("B"))
    send(out, {"end": True, "decode_errors": reader.decode_errors})


def _picture(request: Mapping[str, Any], source: BinaryIO, out: BinaryIO) -> None:
    data, limits = source.read(request["picture"]), request["limits"]
    try:
        image = Image.open(BytesIO(data), formats=PICTURE_FORMATS)
        if image.width * image.height > limits["pixels"]:
            what = f"the picture has more than {limits['pixels']:,} pixels"
            raise MediaError(QuarantineReason.TOO_LARGE, what, image.size)
        upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise MediaError(QuarantineReason.DAMAGED, "not a readable JPEG or PNG picture") from None
    pixels = b"" if request["network_wh"] is None else scaled(upright, tuple(request["network_wh"])).tobytes()
    send(out, {"source_wh": upright.size, "bytes": len(pixels)}, pixels)


if __name__ == "__main__":
    main()

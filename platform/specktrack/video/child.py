"""The decoder processes: ``python -m specktrack.video.child SOCKET`` forks them (see ``forking.py``).

A child answers one request after the other (see ``process.py``) and asks its owner for the bytes that it decodes.
"""

import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.storage import read_through
from specktrack.video.channel import MOST_SAID, Channel, ClosedError
from specktrack.video.index import VideoInfo, frame_times
from specktrack.video.pictures import decode_picture
from specktrack.video.sandbox import code_folders, confine, end_with
from specktrack.video.sound import read_sound
from specktrack.video.unconfined import ClipReader, probe, read_clip

LATE = ("av.subtitles.stream", "numpy.ma", "PIL.GifImagePlugin", "PIL.MpoImagePlugin", "PIL.PpmImagePlugin")
"""Modules that are loaded by the first video or picture: here, once, for a child may not be able to."""
UNFILTERED = "this system has no filter for system calls: if a decoder is taken over, it can do whatever its user may"


def main(number: int) -> None:
    """Fork a child for each pair of sockets that comes; kill and bury those whose lifeline is shut."""
    for module in LATE:
        importlib.import_module(module)
    code_folders()  # once, for all children
    requests = socket.socket(fileno=number)
    children: dict[socket.socket, int] = {}
    while True:
        for end in select.select([requests, *children], [], [])[0]:
            if end is not requests:
                _bury(end, children.pop(end))
                continue
            rights, numbers, _, _ = socket.recv_fds(requests, 256, 2)
            if not rights:  # the owner has gone
                for pid in children.values():
                    os.kill(pid, signal.SIGKILL)
                return
            data, lifeline = (socket.socket(fileno=each) for each in numbers)
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                for other in (requests, lifeline, *children):
                    other.close()
                end_with(parent)
                _be_child(Channel(data), json.loads(rights))
            data.close()
            children[lifeline] = pid
            with suppress(OSError):  # the owner may have gone meanwhile: the loop finds that out
                lifeline.send(str(pid).encode())


def _bury(lifeline: socket.socket, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with lifeline, suppress(OSError):  # the owner may have gone without waiting
        lifeline.send(str(os.waitstatus_to_exitcode(status)).encode())


def _be_child(channel: Channel, rights: dict[str, Any]) -> NoReturn:
    """Give up rights, answer requests until the owner ends it, and never return into the parent's loop."""
    code = 1
    os.dup2(
        sys.stdout.fileno(), sys.stderr.fileno()
    )  # to nowhere: it may be a terminal, or a file of which FSIZE leaves nothing
    try:
        if not confine(**rights):
            channel.send({"said": UNFILTERED})
        read_through(lambda ref: io.BufferedReader(OwnersFile(channel, ref), buffer_size=2**18))
        while True:
            request, body_bytes = channel.receive_head()
            body = bytearray(body_bytes)
            channel.receive_into(body)
            try:
                _answer(channel, request, body)
            except MediaError as error:
                value = error.value if isinstance(error.value, int | float) else error.value and str(error.value)
                fault = {"reason": error.reason, "what": error.what, "value": value, "remedy": error.remedy}
                channel.send({"error": fault})
            except MemoryError:
                fault = {"reason": QuarantineReason.TOO_LARGE, "what": "decoding needs too much memory"}
                channel.send({"error": fault})
    except ClosedError:
        code = 0
    except BaseException:  # noqa: BLE001 -- the end of a process: what a bug says must be seen
        with suppress(ClosedError):
            channel.send({"said": traceback.format_exc()[-MOST_SAID:]})
    finally:
        os._exit(code)


class OwnersFile(io.RawIOBase):
    """A video's bytes, asked for piece by piece from the owner."""

    def __init__(self, channel: Channel, ref: VideoRef) -> None:
        super().__init__()
        self._channel, self._size, self._position = channel, ref.size_bytes, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move without reading."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to the buffer's length."""
        self._channel.send({"bytes": [self._position, len(buffer)]})
        _, count = self._channel.receive_head()
        self._channel.receive_into(memoryview(buffer)[:count])
        self._position += count
        return count


def _answer(channel: Channel, request: dict[str, Any], body: bytearray) -> None:
    if "probe" in request:
        channel.send({"info": probe(VideoRef.model_validate(request["probe"])).model_dump(mode="json")})
    elif "times" in request:
        times_s = frame_times(VideoRef.model_validate(request["times"]), VideoInfo.model_validate(request["info"]))
        channel.send({"pts_s": times_s.tolist()})
    elif "sound" in request:
        for piece in read_sound(VideoRef.model_validate(request["sound"])):
            head = {"channels": piece.samples.shape[1], "rate_hz": piece.rate_hz, "start_s": piece.start_s}
            channel.send(head, np.ascontiguousarray(piece.samples))
        channel.send({})
    elif "picture" in request:
        picture_wh_px, pixels = decode_picture(body, tuple(request["picture"]))
        channel.send({"picture_wh_px": picture_wh_px, "pictures": 1}, pixels.tobytes())
    else:
        _read(channel, request)


def _read(channel: Channel, request: dict[str, Any]) -> None:
    clip, info = Clip.model_validate(request["read"]), VideoInfo.model_validate(request["info"])
    viewport = Viewport(tuple(request["source_wh_px"]), tuple(request["network_wh_px"]), request["luma"])
    frames = request["batch_frames"]
    with read_clip(clip, info=info, viewport=viewport, decoder="pyav", batch_frames=frames) as reader:
        for batch in reader:
            head = {"pictures": len(batch), "frame": int(batch.frame[0]), "pts_s": batch.pts_s.tolist()}
            channel.send({**head, **_damage(reader)}, batch.pixels, *([] if batch.luma is None else [batch.luma]))
        channel.send(_damage(reader))


def _damage(reader: ClipReader) -> dict[str, int]:
    return {"decode_errors": reader.decode_errors, "lost_frames": reader.lost_frames}


if __name__ == "__main__":
    main(int(sys.argv[1]))

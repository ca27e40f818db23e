"""The decoder process: ``python -m specktrack.video.child INCOMING OUTGOING LIFELINE`` (numbers of open pipes).

It answers one request after the other (see ``process.py``) and asks its owner for the bytes that it decodes.
"""

import io
import os
import sys
import threading
from typing import Any, BinaryIO

from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.storage import read_through
from specktrack.video import ClipReader, VideoInfo, probe, read_clip
from specktrack.video.channel import Channel, ClosedError
from specktrack.video.sandbox import confine


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


def main(incoming: int, outgoing: int, lifeline: int) -> None:
    """Answer requests until the owner closes the pipe."""
    _die_with(lifeline)
    confine()
    channel = Channel(incoming, outgoing)

    def open_owners(ref: VideoRef) -> BinaryIO:
        return io.BufferedReader(OwnersFile(channel, ref), buffer_size=2**18)

    read_through(open_owners)
    channel.send({"ready": True})
    while True:
        request, _ = channel.receive_head()
        try:
            _answer(channel, request)
        except MediaError as error:
            value = error.value if isinstance(error.value, int | float) else error.value and str(error.value)
            channel.send({"error": [str(error.reason), error.what, value, error.place, error.remedy]})
        except MemoryError:
            channel.send({"error": [str(QuarantineReason.TOO_LARGE), "decoding needs too much memory", None, "", ""]})


def _die_with(lifeline: int) -> None:
    """End this process when the other end of the pipe ``lifeline`` is closed, also while the decoder hangs."""

    def watch() -> None:
        os.read(lifeline, 1)
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _answer(channel: Channel, request: dict[str, Any]) -> None:
    if "probe" in request:
        channel.send({"info": probe(VideoRef.model_validate(request["probe"])).model_dump(mode="json")})
        return
    clip, info = Clip.model_validate(request["read"]), VideoInfo.model_validate(request["info"])
    viewport = Viewport(tuple(request["source_wh_px"]), tuple(request["network_wh_px"]))
    frames = request["batch_frames"]
    with read_clip(clip, info=info, viewport=viewport, decoder="pyav", batch_frames=frames) as reader:
        for batch in reader:
            head = {"frame": int(batch.frame[0]), "pts_s": batch.pts_s.tolist(), **_damage(reader)}
            channel.send(head, batch.pixels)
        channel.send({"end": True, **_damage(reader)})


def _damage(reader: ClipReader) -> dict[str, int]:
    return {"decode_errors": reader.decode_errors, "lost_frames": reader.lost_frames}


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except ClosedError:  # the owner has gone
        os._exit(0)

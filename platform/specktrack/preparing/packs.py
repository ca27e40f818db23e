"""A pack: the pictures of one clip, each encoded by itself, with an index, so that a few are read without the rest.

    magic      8 bytes
    index      an entry for each frame: where its part begins, bytes of motion and of picture, CRC-32 of both
    parts      for each frame its motion, as sampling wants it, then its picture; neither where the frame is missing

Numbers are little-endian. The clip's index is known to be ``HEAD_BYTES(frames)`` long before anything is read.
"""

# N frames, H W px, R C cells

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from specktrack.errors import StorageError
from specktrack.sampling import MOTION_CELL_PX
from specktrack.video.pictures import decode_picture

MAGIC = b"specpk1\n"
ENTRY = np.dtype([("offset", "<u8"), ("motion", "<u4"), ("picture", "<u4"), ("crc", "<u4")])
_LEVELS = (MOTION_CELL_PX // 4) ** 2
"""A cell's motion is a mean over so many whole numbers: as their sum it is exact in two bytes."""


def _encoder(kind: str, **options: object) -> Callable[[np.ndarray], bytes]:
    def encode(pixels: np.ndarray) -> bytes:
        sink = BytesIO()
        Image.fromarray(pixels).save(sink, kind, **options)
        return sink.getvalue()

    return encode


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "exact": _encoder("WEBP", lossless=True, quality=0, method=0),
    "jpeg": _encoder("JPEG", quality=95, subsampling=0),
}
"""By the names of ``PrepareConfig.pictures``; benchmarks/picture_formats.py measures these and others."""


def head_bytes(frames: int) -> int:
    """Length of magic and index."""
    return len(MAGIC) + frames * ENTRY.itemsize


def packed(pictures: Sequence[bytes], motion: np.ndarray) -> bytes:
    """The pack of encoded pictures, of which those that are missing are empty, and motion float32 [N, R, C]."""
    index, parts, offset = np.zeros(len(pictures), ENTRY), [], head_bytes(len(pictures))
    for number, picture in enumerate(pictures):
        index[number]["offset"] = offset
        if not picture:
            continue
        cells = zlib.compress(np.rint(motion[number] * _LEVELS).astype("<u2").tobytes(), 1)
        index[number] = offset, len(cells), len(picture), zlib.crc32(cells + picture)
        parts += [cells, picture]
        offset += len(cells) + len(picture)
    return b"".join([MAGIC, index.tobytes(), *parts])


def read_index(head: bytes, frames: int, place: str) -> np.ndarray:
    """ENTRY [N] of a pack that begins with ``head``; StorageError if it is none."""
    if not head.startswith(MAGIC) or len(head) < head_bytes(frames):
        raise StorageError("not a pack of pictures", place=place, remedy="prepare the data again")
    return np.frombuffer(head, ENTRY, frames, len(MAGIC))


@dataclass(frozen=True)
class Part:
    """One frame of a pack as it is stored; a frame that is missing is black and still."""

    motion: bytes
    picture: bytes

    @classmethod
    def of(cls, data: bytes, entry: np.void, place: str) -> "Part":
        """The frame that ``entry`` describes; StorageError if its bytes are not those of then."""
        if len(data) != entry["motion"] + entry["picture"] or zlib.crc32(data) != entry["crc"]:
            raise StorageError("a pack of pictures is damaged", place=place, remedy="prepare the data again")
        return cls(data[: entry["motion"]], data[entry["motion"] :])

    def pixels(self, wh: tuple[int, int]) -> np.ndarray:
        """uint8 [H, W, 3]."""
        width, height = wh
        return decode_picture(self.picture)[1] if self.picture else np.zeros((height, width, 3), np.uint8)

    def cells(self, wh: tuple[int, int]) -> np.ndarray:
        """Motion float32 [R, C]."""
        columns, rows = (side // 4 // (MOTION_CELL_PX // 4) for side in wh)
        if not self.motion:
            return np.zeros((rows, columns), np.float32)
        sums = np.frombuffer(zlib.decompress(self.motion), "<u2").reshape(rows, columns)
        return sums.astype(np.float32) / np.float32(_LEVELS)

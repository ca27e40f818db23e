"""One encoded picture: a frame in a folder, or one of a stream."""

from io import BytesIO
from typing import Protocol

import numpy as np
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from specktrack.errors import MediaError, QuarantineReason
from specktrack.video.container import check_size

FORMATS = tuple(
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
"""Picture formats that are read; named by their classes, so that they are loaded here and not by the first picture."""


class PictureDecoder(Protocol):
    """``decode_picture``, here or in another process."""

    def __call__(self, data: bytes, wh_px: tuple[int, int]) -> tuple[tuple[int, int], np.ndarray]:
        """The upright size, and pixels uint8 [H, W, 3] at ``wh_px``; (0, 0) asks for the size alone."""


def decode_picture(data: bytes | bytearray, wh_px: tuple[int, int] | None = None) -> tuple[tuple[int, int], np.ndarray]:
    """The upright size of an encoded picture, and its pixels uint8 [H, W, 3] at ``wh_px``, or as it is without that.

    Scaled by area averaging where it shrinks; (0, 0) asks for the size alone. MediaError: DAMAGED for what cannot be
    read, TOO_LARGE beyond a video's ceilings.
    """
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        check_size(*image.size)
        upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises
        raise MediaError(QuarantineReason.DAMAGED, "not a readable picture") from None
    if wh_px == (0, 0):
        return upright.size, np.empty((0, 0, 3), np.uint8)
    if wh_px is None or upright.size == wh_px:
        return upright.size, np.asarray(upright)
    shrinks = wh_px[0] < upright.width and wh_px[1] < upright.height
    kernel = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return upright.size, np.asarray(upright.resize(wh_px, kernel))

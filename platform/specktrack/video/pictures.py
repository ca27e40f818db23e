"""One encoded picture: a frame in a folder, or one of a stream."""

from io import BytesIO
from typing import Protocol

import numpy as np
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import Viewport
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
    return upright.size, np.asarray(upright if wh_px is None else _resized(upright, wh_px))


def decode_at(
    data: bytes, viewport: Viewport, decode: PictureDecoder = decode_picture
) -> tuple[tuple[int, int], np.ndarray, np.ndarray | None]:
    """The upright size of an encoded picture, its pixels at network size, and its luma uint8 [H, W] (ITU-R BT.601, as
    JPEG has it) at source size where the viewport asks for it; it is decoded once."""
    if not viewport.luma:
        return *decode(data, viewport.network_wh_px), None
    wh_px, whole = decode(data, viewport.source_wh_px)
    luma = (whole @ np.array([77, 150, 29], np.uint16) + 128) >> 8
    return wh_px, np.asarray(_resized(Image.fromarray(whole), viewport.network_wh_px)), luma.astype(np.uint8)


def _resized(image: Image.Image, wh_px: tuple[int, int]) -> Image.Image:
    if image.size == wh_px:
        return image
    shrinks = wh_px[0] < image.width and wh_px[1] < image.height
    return image.resize(wh_px, Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR)

"""Reading video in this process: only decoder processes do this with untrusted bytes.

Which decoder reads a video follows from measured facts (``benchmarks/decoders.py``; frames per CPU-second, one thread,
to 512x288 by area averaging, on two loaded cores, November 2026; "bilinear" is decord's own scaling, another picture):

    video                       PyAV   decord   (bilinear)
    1080p H.264, GOP 60           98       55           94
    1080p H.264, GOP 250         102       64          106
    720p H.264, GOP 60           220       91          214
    1080p HEVC                   128       66          121
    1080p VP9                    106       55            -
    broadcast tennis, 1080p      188       92          195
    broadcast badminton, 720p    436      126          393

PyAV is exact on all containers and codecs and nowhere slower for the same pixels, so it reads every video. decord reads
one only where it is asked for and right (``decord.objection``). Folders of images are read by Pillow.
"""

import math
from collections.abc import Callable, Generator, Iterator
from typing import Protocol, Self

import numpy as np

from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.video.decord import DecordDecoder
from specktrack.video.folder import ASSUMED_FPS, FolderDecoder, index_folder
from specktrack.video.index import DecoderName, Picture, VideoInfo, measure
from specktrack.video.pyav import PyAVDecoder

MOST_LOST = 0.1
"""A clip that lost a larger share of its pictures is DAMAGED: rows about repeated pictures are worth nothing."""


BATCH_BYTES = 64 * 10**6


class Decoder(Protocol):
    """Pictures of one video at one size."""

    decode_errors: int
    """Errors that the decoder logged or raised for the frames read, and frames lost."""
    lost: int
    """Frames that repeat their neighbour because they could not be decoded."""

    def pictures(self, start: int, stop: int) -> Generator[Picture]:
        """Frames [start, stop) in order, fewer if the bytes end before."""


DECODERS: dict[DecoderName, Callable[..., Decoder]] = {
    "pyav": PyAVDecoder,
    "decord": DecordDecoder,
    "frames": FolderDecoder,
}


def probe(ref: VideoRef, *, folder_fps: float = ASSUMED_FPS) -> VideoInfo:
    """Measure a video: size, frames, rate, seek points. ``folder_fps`` is the rate of folders of images.

    MediaError, with the reason for its quarantine, says why a video cannot be used.
    """
    return index_folder(ref, fps=folder_fps) if ref.uri.endswith("/") else measure(ref)


def read_clip(
    clip: Clip,
    *,
    info: VideoInfo | None = None,
    viewport: Viewport | None = None,
    decoder: DecoderName | None = None,
    batch_frames: int | None = None,
    threads: int = 1,
) -> "ClipReader":
    """Open a clip for reading, lead-in and lead-out included; ``info`` from ``probe`` saves measuring it again.

    Pictures are scaled to ``viewport.network_wh_px`` (source size without one). One decode thread by default: bulk
    work runs one reader per core, and threads inside a reader only help a single one.
    """
    info = info or probe(clip.video)
    viewport = viewport or Viewport(info.size_wh_px, info.size_wh_px)
    chosen = DECODERS[decoder or info.decoder](
        clip.video, info, wh_px=viewport.network_wh_px, luma=viewport.luma, threads=threads
    )
    return ClipReader(clip, info, viewport, chosen, batch_frames or batch_frames_for(viewport))


def frames_of(clip: Clip, info: VideoInfo) -> range:
    """The frames that reading a clip gives, lead-in and lead-out included."""
    return range(clip.start - clip.lead_in, max(clip.stop, min(clip.stop + clip.lead_out, info.frames)))


def batch_frames_for(viewport: Viewport) -> int:
    """Frames per batch: 32 small ones, fewer where 32 would be more than 64 MB."""
    frame_bytes = 3 * math.prod(viewport.network_wh_px) + viewport.luma * math.prod(viewport.source_wh_px)
    return max(1, min(32, BATCH_BYTES // frame_bytes))


class ClipReader:
    """Frames [start - lead_in, stop + lead_out) of a clip in batches, at constant memory; close it or use ``with``.

    A lead-out ends at the video's end. Frames that cannot be decoded repeat their neighbour and are counted, so that
    every frame keeps its number. After the last frame that could be read, MediaError(TRUNCATED) is raised if the bytes
    end before the clip does, and MediaError(DAMAGED) if more than a tenth of its frames were lost.
    """

    def __init__(self, clip: Clip, info: VideoInfo, viewport: Viewport, decoder: Decoder, batch_frames: int) -> None:
        self.clip, self.info, self.viewport = clip, info, viewport
        self._decoder, self._batch_frames = decoder, batch_frames
        self._batches = self._read()

    @property
    def decode_errors(self) -> int:
        """Errors so far: logged or raised by the decoder for frames of this clip, and frames lost."""
        return self._decoder.decode_errors

    @property
    def lost_frames(self) -> int:
        """Frames so far that repeat their neighbour."""
        return self._decoder.lost

    def __iter__(self) -> Iterator[FrameBatch]:
        return self

    def __next__(self) -> FrameBatch:
        return next(self._batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the container; reading on ends."""
        self._batches.close()

    def _read(self) -> Generator[FrameBatch]:
        wanted = frames_of(self.clip, self.info)
        (width, height), (source_w, source_h) = self.viewport.network_wh_px, self.viewport.source_wh_px
        delivered = 0
        pending: list[tuple[int, float]] = []
        pixels = luma = np.empty((0,))
        pictures = self._decoder.pictures(wanted.start, wanted.stop)
        try:
            for picture in pictures:
                if not pending:
                    room = min(self._batch_frames, len(wanted) - delivered)
                    pixels = np.empty((room, height, width, 3), np.uint8)
                    luma = np.empty((room, source_h, source_w), np.uint8) if self.viewport.luma else luma
                pixels[len(pending)] = picture.pixels
                if self.viewport.luma:
                    luma[len(pending)] = picture.luma
                pending.append((picture.frame, picture.pts_s))
                delivered += 1
                if len(pending) == len(pixels):
                    yield self._batch(pixels, luma, pending)
                    pending = []
            if pending:
                yield self._batch(pixels, luma, pending)
        finally:
            pictures.close()
        self._check(delivered, len(wanted))

    def _batch(self, pixels: np.ndarray, luma: np.ndarray, pending: list[tuple[int, float]]) -> FrameBatch:
        frames, pts_s = zip(*pending, strict=True)
        frame, times_s = np.array(frames, np.int64), np.array(pts_s, np.float64)
        shown = luma[: len(frame)] if self.viewport.luma else None
        return FrameBatch(pixels[: len(frame)], frame, times_s, self.viewport, luma=shown)

    def _check(self, delivered: int, wanted: int) -> None:
        if self._decoder.lost > MOST_LOST * wanted:
            what = f"{self._decoder.lost} of {wanted} frames cannot be decoded"
            raise MediaError(QuarantineReason.DAMAGED, what, place=self.clip.video.uri, remedy="copy the video again")
        if delivered < wanted:
            what = f"the video ends after {delivered} of the clip's {wanted} frames"
            raise MediaError(QuarantineReason.TRUNCATED, what, place=self.clip.video.uri, remedy="copy the video again")

"""The functions of ``specktrack.video``, run in a decoder process, for callers that read few videos."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np

from specktrack.frames import FrameBatch, Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.video.index import VideoInfo
from specktrack.video.process import DecoderProcess


def probe(ref: VideoRef) -> VideoInfo:
    """Measure a video; MediaError, with the reason for its quarantine, says why it cannot be used."""
    with DecoderProcess() as decoder:
        return decoder.probe(ref)


def frame_times(ref: VideoRef, info: VideoInfo) -> np.ndarray:
    """Presentation times of all frames of a video that was measured, float64 seconds: those of its rows."""
    with DecoderProcess() as decoder:
        return decoder.frame_times(ref, info)


@contextmanager
def read_clip(
    clip: Clip, *, info: VideoInfo | None = None, viewport: Viewport | None = None
) -> Iterator[Iterator[FrameBatch]]:
    """A clip's frames in batches; ``info`` from ``probe`` saves measuring it again."""
    with DecoderProcess() as decoder:
        info = info or decoder.probe(clip.video)
        viewport = viewport or Viewport(info.size_wh_px, info.size_wh_px)
        with closing(decoder.read_clip(clip, info=info, viewport=viewport)) as reader:
            yield reader

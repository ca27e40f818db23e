"""The still scene of a video, read once by each process that annotates clips of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import FrameBatch
from specktrack.schema import Clip, VideoRef
from specktrack.tracking.windowed.background import median_picture, stepped
from specktrack.video import VideoInfo

READ_WHOLE_UP_TO = 1800
"""Frames of a video that is read from end to end; in a longer one each frame is sought, which costs the frames between
it and the seek point before: at most 128 groups of pictures, however long the video is."""

Read = Callable[[Clip, VideoInfo], Iterator[FrameBatch]]


@dataclass(frozen=True)
class _Known:
    video_key: str
    size_wh: tuple[int, int]
    picture: np.ndarray


class Backgrounds:
    """The background of the video last asked for: clips of one video mostly follow one another."""

    def __init__(self) -> None:
        self._known: _Known | None = None

    def of(
        self, video: VideoRef, wh: tuple[int, int], *, probe: Callable[[VideoRef], VideoInfo], read: Read
    ) -> np.ndarray:
        """uint8 [H, W, 3] at ``wh``: the median of the frames that ``stepped`` names.

        Of a damaged video those that can be read; MediaError if there are none.
        """
        known = self._known
        if known is None or (known.video_key, known.size_wh) != (video.key, wh):
            info = probe(video)  # a clip's own knows the seek points around the clip only
            known = self._known = _Known(video.key, wh, median_picture(_pictures(video, info, read)))
        return known.picture


def _pictures(video: VideoRef, info: VideoInfo, read: Read) -> np.ndarray:
    chosen = stepped(info.frames)
    seeking_pays = len(info.keyframes) > len(chosen) / 2  # half a group of pictures is decoded for each frame sought
    if info.frames <= READ_WHOLE_UP_TO or info.counted or not seeking_pays:
        clips = [Clip(video=video, start=0, stop=info.frames)]
    else:
        clips = [Clip(video=video, start=frame, stop=frame + 1) for frame in chosen]
    pictures: list[np.ndarray] = []
    fault: MediaError | None = None
    for clip in clips:
        try:
            for batch in read(clip, info):
                pictures.extend(batch.pixels[batch.frame % chosen.step == 0])
        except MediaError as error:
            if error.reason in (QuarantineReason.TIMEOUT, QuarantineReason.CRASHED):
                raise  # it would be as slow or as deadly again for each of the frames
            fault = error
    if not pictures:
        assert fault is not None
        raise fault
    return np.stack(pictures)

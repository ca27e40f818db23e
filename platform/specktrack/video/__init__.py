"""Reading and writing video: ``probe`` and ``read_clip`` in a confined decoder process, and ``write_video``.

Each name is imported when it is first used: a decoder process needs none of them.
"""

from typing import TYPE_CHECKING

from specktrack.lazy import names

if TYPE_CHECKING:
    from specktrack.video.confined import frame_times, probe, read_clip
    from specktrack.video.index import VideoInfo
    from specktrack.video.unconfined import ClipReader
    from specktrack.video.writer import write_video

__all__ = ["ClipReader", "VideoInfo", "frame_times", "probe", "read_clip", "write_video"]

__getattr__ = names(
    __name__,
    frame_times="specktrack.video.confined",
    probe="specktrack.video.confined",
    read_clip="specktrack.video.confined",
    VideoInfo="specktrack.video.index",
    ClipReader="specktrack.video.unconfined",
    write_video="specktrack.video.writer",
)

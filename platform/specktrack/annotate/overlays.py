"""Overlay videos: each video's rows drawn on it, in ``overlays/``."""

import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from specktrack import overlay, telemetry
from specktrack.errors import MediaError
from specktrack.ledger import read_annotations
from specktrack.schema import VideoRef
from specktrack.storage import Store, open_store

log = telemetry.get_logger()


def wanted(videos: Sequence[VideoRef], *, changed: Collection[str], store: Store) -> list[dict[str, str]]:
    """Videos whose overlay is missing, or whose rows were ``changed`` (video keys), with the overlay's key."""
    names = Counter(video.name for video in videos)
    there = {info.key for info in store.list("overlays/")}
    places = {video: f"overlays/{video.name if names[video.name] == 1 else video.key}.mp4" for video in videos}
    return [
        {"video": video.model_dump_json(), "place": place}
        for video, place in places.items()
        if place not in there or video.key in changed
    ]


class Overlayer:
    """An actor's work: draws overlay videos for an output."""

    def __init__(self, output: str) -> None:
        self._output = output

    def __call__(self, row: dict[str, str]) -> list[dict[str, str]]:
        """Draw the video in ``row`` and store it; a video without rows has no overlay."""
        video = VideoRef.model_validate_json(row["video"])
        rows = read_annotations(self._output, video=video)
        if not rows.num_rows:
            return []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "overlay.mp4")
            try:
                overlay.render(video, rows, path)
            except MediaError as error:
                log.warning("no overlay", video=video.uri, error=str(error))
                return []
            open_store(self._output).put_file(row["place"], path)
        return [row]

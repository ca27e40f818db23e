"""Overlay videos: each video's rows drawn on it, in ``overlays/``."""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from specktrack import overlay, telemetry
from specktrack.annotating.workers import Attempts
from specktrack.errors import MediaError, QuarantineReason, SpecktrackError
from specktrack.ledger import overlay_places, read_annotations
from specktrack.schema import VideoRef
from specktrack.storage import Store, open_store
from specktrack.video.process import DecodeLimits

log = telemetry.get_logger()


def wanted(videos: Sequence[VideoRef], *, changed: Collection[str], store: Store) -> list[dict[str, str]]:
    """Videos whose overlay is missing, or whose rows were ``changed`` (video keys), with the overlay's key."""
    there = {info.key for info in store.list("overlays/")}
    return [
        {"video": video.model_dump_json(), "place": place}
        for video, place in overlay_places(videos).items()
        if place not in there or video.key in changed
    ]


class OverlayArguments(NamedTuple):
    """Settings that the overlay actors of a run share."""

    output: str
    timeout_s: float
    attempts: Attempts


class Overlayer:
    """An actor's work: draws overlay videos for an output."""

    def __init__(self, arguments: OverlayArguments) -> None:
        self._arguments = arguments

    def __call__(self, row: dict[str, str]) -> list[dict[str, str]]:
        """Draw the video in ``row`` and store it; a video without rows has no overlay.

        What is returned says in ``fault`` why there is none. Rows are committed by now: no video ends their run.
        """
        video = VideoRef.model_validate_json(row["video"])
        try:
            self._arguments.attempts.begin(row["place"])
            drawn = self._draw(video, row["place"])
        except MediaError as error:
            return [self._left_out(row, str(error))]
        except SpecktrackError:
            raise
        except Exception as error:  # at the actor's boundary: an encoder refuses what a decoder gave
            log.exception("drawing an overlay failed", place=row["place"])
            return [self._left_out(row, f"{type(error).__name__}: {error}")]
        return [{"place": row["place"], "fault": ""}] if drawn else []

    def _draw(self, video: VideoRef, place: str) -> bool:
        rows = read_annotations(self._arguments.output, video=video)
        if not rows.num_rows:
            return False
        limits = DecodeLimits(stall_s=self._arguments.timeout_s)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "overlay.mp4")
            try:
                overlay.render(video, rows, path, limits=limits)
            except MediaError as error:
                if error.reason is not QuarantineReason.CRASHED:
                    raise
                overlay.render(video, rows, path, limits=limits)  # it may have been killed from outside
            open_store(self._arguments.output).put_file(place, path)
        return True

    def _left_out(self, row: dict[str, str], fault: str) -> dict[str, str]:
        log.warning("no overlay", place=row["place"], fault=fault)
        return {"place": row["place"], "fault": fault}

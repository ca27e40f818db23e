"""The actors that pack clips and make backgrounds; only receipts travel back."""

import io
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from PIL import Image

from specktrack.annotating.plan import PlannedClip
from specktrack.annotating.receipts import Receipt, carried_out
from specktrack.annotating.workers import Attempts
from specktrack.errors import MediaError, QuarantineReason
from specktrack.ledger import Content, Ledger
from specktrack.preparing.blocks import Blocks
from specktrack.preparing.config import PACK_FORMAT
from specktrack.preparing.frames import fill
from specktrack.preparing.packs import ENCODERS, packed
from specktrack.preparing.prepared import background_key, open_prepared, viewport_of
from specktrack.sampling import motion_cells
from specktrack.schema import Clip, VideoRef
from specktrack.storage import Store
from specktrack.tracking.windowed.background import median_picture, stepped
from specktrack.video import VideoInfo
from specktrack.video.pictures import decode_picture
from specktrack.video.process import DecodeLimits, DecoderProcess


@dataclass(frozen=True)
class PackerArguments:
    """Arguments of every packer of a run."""

    store: Store
    """The destination."""
    input_wh: tuple[int, int] | None
    pictures: str
    config_sha: str
    timeout_s: float
    attempts: Attempts


@dataclass(frozen=True)
class Packed:
    """Result for one clip."""

    content: Content | None
    missing: int
    error: MediaError | None = None


class Packer:
    """An actor's work: decodes clips at network size and packs them, one after the other."""

    def __init__(self, arguments: PackerArguments) -> None:
        self._arguments = arguments
        self._decoder = DecoderProcess(DecodeLimits(stall_s=arguments.timeout_s))
        self._ledger = Ledger(arguments.store, PACK_FORMAT, arguments.config_sha)

    def __call__(self, row: PlannedClip) -> list[Receipt]:
        """Pack and commit the clip in ``row``, or quarantine it; other errors than of the media fail the run."""
        return carried_out(row, self._arguments.attempts, self._ledger, self)

    def work(self, clip: Clip, info: VideoInfo) -> Packed:
        """See Work; where the decoder dies it gets a second chance, for it may have been killed from outside."""
        packed = self._packed(clip, info)
        again = packed.error is not None and packed.error.reason is QuarantineReason.CRASHED
        return self._packed(clip, info) if again else packed

    def _packed(self, clip: Clip, info: VideoInfo) -> Packed:
        """A clip that can be read in part is packed with what is missing; one of which nothing can is set aside."""
        first, stop = clip.start - clip.lead_in, clip.stop + clip.lead_out
        viewport = viewport_of(info.size_wh_px, self._arguments.input_wh)
        width, height = viewport.network_wh_px
        pixels, missing = np.zeros((stop - first, height, width, 3), np.uint8), np.ones(stop - first, bool)
        error: MediaError | None = None
        try:
            with closing(self._decoder.read_clip(clip, info=info, viewport=viewport)) as reader:
                fill(reader, pixels, missing, first=first)
        except MediaError as fault:
            error = fault
        ours = slice(clip.lead_in, clip.lead_in + clip.stop - clip.start)
        lost = int(missing[ours].sum())
        if error is not None and (missing[ours].all() or error.reason in _OF_THE_VIDEO):
            return Packed(None, lost, error)
        encode = ENCODERS[self._arguments.pictures]
        pictures = [b"" if gone else encode(picture) for picture, gone in zip(pixels, missing, strict=True)]
        if self._arguments.pictures != "exact":  # motion is that of the pictures as they will be seen
            for number in np.flatnonzero(~missing):
                pixels[number] = decode_picture(pictures[number])[1]
        data = packed(pictures[ours], motion_cells(pixels)[ours])
        return Packed(Content(data, clip.stop - clip.start - lost, "pack"), lost)

    def failed(self, error: MediaError) -> Packed:
        """See Work."""
        return Packed(None, 0, error)

    def commit(self, clip: Clip, info: VideoInfo, result: Packed) -> Receipt:
        """See Work."""
        started = time.perf_counter()
        if result.content is not None:
            record = self._ledger.commit_content(clip, result.content, frames=info.frames, decode_errors=result.missing)
        else:
            assert result.error is not None
            reason, detail = result.error.reason, str(result.error)
            record = self._ledger.quarantine(
                clip.video, clip.start, clip.stop, reason=reason, detail=detail, frames=info.frames
            )
        seconds = {"commit": time.perf_counter() - started}
        return Receipt(record=record.model_dump_json(), frames=record.rows, seconds=seconds)


_OF_THE_VIDEO = (QuarantineReason.CHANGED, QuarantineReason.UNREADABLE, QuarantineReason.CRASHED)
"""Reasons that say nothing of the frames: the clip is done again by ``--retry-quarantined``."""


class Still(TypedDict):
    """One video whose background is to be made, and back as it is made."""

    video: str
    """VideoRef as JSON."""
    width: int
    height: int


class StillMaker:
    """An actor's work: the median picture of each video, from its packs."""

    def __init__(self, store: Store) -> None:
        prepared = open_prepared(store.uri)
        assert prepared is not None
        self._store, self._prepared = store, prepared

    def __call__(self, row: Still) -> list[Still]:
        """Make it, unless it is there; equal packs give equal bytes, so it does not matter who was first."""
        ref = VideoRef.model_validate_json(row["video"])
        key = background_key(ref.key)
        if not self._store.exists(key):
            frames = self._prepared.frames(ref, (row["width"], row["height"]), Blocks(self._store))
            assert frames is not None
            known = np.flatnonzero(~frames.missing())
            if not len(known):
                return [row]
            there = [frame for frame in stepped(len(frames)) if frame in known] or [int(known[0])]
            sink = io.BytesIO()
            Image.fromarray(median_picture(frames.take(there))).save(sink, "PNG")
            self._store.put(key, sink.getvalue())
        return [row]

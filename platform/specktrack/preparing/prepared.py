"""Prepared data as training reads it: an index of all clips, and the frames of a video on demand."""

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specktrack.errors import ConfigError
from specktrack.frames import Viewport
from specktrack.preparing.blocks import BLOCK_BYTES, Blocks
from specktrack.preparing.packs import Part, head_bytes, read_index
from specktrack.schema import ClipRecord, VideoRef
from specktrack.storage import Store, open_store
from specktrack.video.pictures import decode_picture

INDEX = "packs.parquet"
INDEXES_KEPT = 1024
"""Of the packs read last; 2 kB each for a clip of four seconds."""

_COLUMNS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("pack", pa.string()),
        pa.field("missing", pa.list_(pa.int64()), nullable=False),
    ]
)


@dataclass(frozen=True)
class PackedClip:
    """Frames ``start`` to ``stop`` of a video."""

    start: int
    stop: int
    pack: str | None
    """Key of the object; None where the clip was set aside."""
    missing: tuple[int, ...]
    """Frames that could not be decoded, if there is a pack."""


@dataclass(frozen=True)
class Prepared:
    """The index of prepared data."""

    store: Store
    settings: dict[str, Any]
    """``PrepareConfig.settings``."""
    clips: dict[str, list[PackedClip]]
    """Of each video, by its key, in order; none of a video that could not be measured."""

    def viewport(self, source_wh_px: tuple[int, int], input_wh: tuple[int, int] | None) -> Viewport:
        """The size of a video's pictures; ConfigError if that is not what a network of ``input_wh`` sees."""
        made, wanted = (viewport_of(source_wh_px, wh) for wh in (self.settings["input_wh"], input_wh))
        if made != wanted:
            raise ConfigError(
                f"the data is prepared at {_words(made)}, but the network needs {_words(wanted)}", place=self.store.uri,
                remedy="prepare the data again at that size, in another place",
            )  # fmt: skip
        return made

    def frames(self, ref: VideoRef, wh: tuple[int, int], blocks: Blocks) -> "PackedFrames | None":
        """The frames of a video; None where it could not be measured when it was prepared."""
        clips = self.clips.get(ref.key)
        if clips is None:
            raise ConfigError("a labelled video is not in the prepared data", ref.uri, self.store.uri, "prepare again")
        return PackedFrames(blocks, clips, wh) if clips[-1].stop else None

    def background(self, ref: VideoRef) -> np.ndarray:
        """uint8 [H, W, 3]: the video's median picture."""
        return decode_picture(self.store.get(background_key(ref.key)))[1]

    def blocks(self, folder: Path, *, most_bytes: int) -> Blocks:
        """Its packs, of which so much is kept in a folder."""
        return Blocks(self.store, folder, most_bytes=most_bytes)


def background_key(video_key: str) -> str:
    """Where a video's median picture lies."""
    return f"backgrounds/{video_key}.png"


def viewport_of(source_wh_px: tuple[int, int], input_wh: Sequence[int] | None) -> Viewport:
    """At what size a video's pictures are packed."""
    if input_wh is None:
        return Viewport(source_wh_px, source_wh_px)
    width, height = input_wh
    return Viewport.fit(source_wh_px, (width, height))


def _words(viewport: Viewport) -> str:
    return "x".join(map(str, viewport.network_wh_px))


def open_prepared(uri: str) -> Prepared | None:
    """The index of the data at a place; None where they are not prepared."""
    store = open_store(uri)
    if not store.exists(INDEX):
        return None
    table = pq.read_table(io.BytesIO(store.get(INDEX)))
    clips = defaultdict[str, list[PackedClip]](list)
    for row in table.to_pylist():
        clips[row["video"]].append(PackedClip(row["start"], row["stop"], row["pack"], tuple(row["missing"])))
    return Prepared(store, json.loads(table.schema.metadata[b"settings"]), dict(clips))


def write_index(store: Store, records: Iterable[ClipRecord], settings: dict[str, Any]) -> None:
    """The index of all clips with a record."""
    rows = []
    for record in sorted(records, key=lambda record: (record.video.key, record.start)):
        missing: list[int] = []
        if record.data_uri is not None and record.rows < record.stop - record.start:
            clip = PackedClip(record.start, record.stop, record.data_uri, ())
            head = store.get_range(record.data_uri, 0, head_bytes(record.stop - record.start))
            index = read_index(head, clip.stop - clip.start, store.uri_of(record.data_uri))
            missing = (np.flatnonzero(index["picture"] == 0) + clip.start).tolist()
        rows.append((record.video.key, record.start, record.stop, record.data_uri, missing))
    columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _COLUMNS, strict=True)]
    schema = _COLUMNS.with_metadata({"settings": json.dumps(settings)})
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=schema), sink, compression="zstd")
    store.put(INDEX, sink.getvalue())


class PackedFrames:
    """The frames of one video, read from its packs as they are asked for; those that are missing are black."""

    def __init__(self, blocks: Blocks, clips: list[PackedClip], wh: tuple[int, int]) -> None:
        self.wh = wh
        self._blocks, self._clips = blocks, clips
        self._starts = np.array([clip.start for clip in clips])
        self._index = lru_cache(maxsize=INDEXES_KEPT)(self._read_index)

    def __len__(self) -> int:
        return self._clips[-1].stop

    def missing(self) -> np.ndarray:
        """bool [N]: frames that could not be decoded when the data were prepared."""
        missing = np.zeros(len(self), bool)
        for clip in self._clips:
            missing[clip.start : clip.stop] |= clip.pack is None
            missing[list(clip.missing)] = True
        return missing

    def __getitem__(self, frame: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return self._parts([frame])[frame].pixels(self.wh)

    def take(self, frames: Sequence[int], rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Parts of some frames, in any order, uint8 [n, h, w, 3]."""
        parts = self._parts(sorted(set(frames)))
        pictures = {frame: part.pixels(self.wh)[rows, columns] for frame, part in parts.items()}
        return np.stack([pictures[frame] for frame in frames])

    def motion(self, frame: int) -> np.ndarray:
        """float32 [R, C]: how much moved since the frame before, see ``sampling.motion_cells``."""
        return self._parts([frame])[frame].cells(self.wh)

    def _parts(self, frames: Sequence[int]) -> dict[int, Part]:
        """Of frames that rise; those that lie together come in one read."""
        found: dict[int, Part] = {}
        places = np.searchsorted(self._starts, frames, side="right") - 1
        for place in sorted(set(places.tolist())):
            mine = [frame for frame, at in zip(frames, places, strict=True) if at == place]
            found |= self._parts_of(self._clips[place], mine)
        return found

    def _parts_of(self, clip: PackedClip, frames: Sequence[int]) -> dict[int, Part]:
        if clip.pack is None:
            return {frame: Part(b"", b"") for frame in frames}
        entries, place = self._index(clip)[np.array(frames) - clip.start], self._blocks.uri_of(clip.pack)
        starts = entries["offset"].astype(np.int64)
        stops = starts + entries["motion"] + entries["picture"]
        parts: dict[int, Part] = {}
        for near in np.split(np.arange(len(frames)), np.flatnonzero(starts[1:] - stops[:-1] > BLOCK_BYTES) + 1):
            first = int(starts[near].min())
            data = self._blocks.read(clip.pack, first, int(stops[near].max()))
            for i in near.tolist():
                parts[frames[i]] = Part.of(data[starts[i] - first : stops[i] - first], entries[i], place)
        return parts

    def _read_index(self, clip: PackedClip) -> np.ndarray:
        assert clip.pack is not None
        frames = clip.stop - clip.start
        return read_index(self._blocks.read(clip.pack, 0, head_bytes(frames)), frames, self._blocks.uri_of(clip.pack))

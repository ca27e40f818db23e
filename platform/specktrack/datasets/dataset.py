"""A labelled dataset on disk or in S3: ``labels.parquet`` (rows) and ``dataset.json`` (its card, written last).

Where hits, bounces and rallies are known as well, they are in ``events.parquet`` (EVENTS).

Videos stay where they are and are named by URI; those inside the dataset's own folder are written relative to it, so
that the folder can be moved.
"""

import io
import json
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, ValidationError
from pydantic_core import from_json

from specktrack import __version__
from specktrack.config import Config, explain
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import EVENTS, ROWS, VideoRef, check_rows, sha256_hex
from specktrack.storage import Store, local_path, stat

CARD_NAME, ROWS_NAME, EVENTS_NAME = "dataset.json", "labels.parquet", "events.parquet"


class DatasetVideo(Config):
    """One labelled video."""

    ref: VideoRef
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    fps: float = Field(gt=0)
    frames: int = Field(ge=0)
    labels_only: bool = False
    """The labels came without their video: size and rate are what the person said, ``ref`` is where it would lie."""


class DatasetCard(Config):
    """A dataset's contents and origin."""

    name: str
    format: str
    """The layout it was imported from, ``rows`` or ``synthetic``."""
    source: str
    """URI that was imported, or the settings that rendered it."""
    videos: tuple[DatasetVideo, ...]
    rows: int = Field(ge=0)
    label_sha256: str
    """Over labels.parquet: names the version of the labels beside every score."""
    notes: tuple[str, ...] = ()
    """Licence, corrections and repairs worth knowing."""
    split: str | None = None
    """``SPLIT/PART`` where the dataset is one part of a split."""
    package_version: str


@dataclass(frozen=True)
class Dataset:
    """Labels in memory with their card; pixels stay in the videos."""

    card: DatasetCard
    rows: pa.Table
    """In the row schema, ordered as imported; frames without a row are not labelled."""
    events: pa.Table | None = None
    """In the EVENTS schema; None where nobody labelled them."""

    def track(self, video: DatasetVideo) -> Trajectory:
        """The labels of one video (object 0), ordered by frame."""
        mine = pc.and_(pc.equal(self.rows["video"], video.ref.uri), pc.equal(self.rows["object"], 0))
        return Trajectory.from_rows(self.rows.filter(mine))


def make_dataset(
    rows: pa.Table,
    videos: tuple[DatasetVideo, ...],
    *,
    name: str,
    layout: str,
    source: str,
    notes: tuple[str, ...] = (),
    split: str | None = None,
    events: pa.Table | None = None,
) -> Dataset:
    """A dataset with the card that belongs to ``rows``."""
    card = DatasetCard(
        name=name, format=layout, source=source, videos=videos, rows=rows.num_rows, notes=notes,
        split=split, label_sha256=sha256_hex(_parquet(rows)), package_version=__version__,
    )  # fmt: skip
    return Dataset(card, rows, events)


def all_of(kind: str, dataset: Dataset) -> Dataset:
    """The dataset with every object that has a position labelled as of one kind."""
    rows, present = dataset.rows, pc.is_valid(dataset.rows["x"])
    words = pc.if_else(present, pa.scalar(kind), pa.scalar(None, pa.string()))
    field = ROWS.field("kind")
    rows = rows.set_column(rows.schema.get_field_index("kind"), field, words.cast(field.type))
    return replace(dataset, rows=rows)


def save_dataset(dataset: Dataset, store: Store) -> DatasetCard:
    """Write rows, then the card; the card as it was written (its hash covers relative names). StorageError."""
    names = {video.ref.uri: _inside(video.ref.uri, store) for video in dataset.card.videos}
    data = _parquet(_renamed(dataset.rows, names))
    card = dataset.card.model_copy(update={"label_sha256": sha256_hex(data)})
    content = card.model_dump(mode="json")
    for video in content["videos"]:
        video["ref"]["uri"] = names[video["ref"]["uri"]]
    store.put(ROWS_NAME, data)
    if dataset.events is not None:
        store.put(EVENTS_NAME, _parquet(_renamed(dataset.events, names)))
    elif store.exists(EVENTS_NAME):  # of the dataset that this one replaces
        store.delete(EVENTS_NAME)
    store.put(CARD_NAME, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return card


def read_dataset(store: Store) -> Dataset:
    """Read a saved dataset. ConfigError if the card is damaged or a video of its own folder is gone or has changed."""
    place = store.uri_of(CARD_NAME)
    try:
        content = from_json(store.get(CARD_NAME))
        names = {video["ref"]["uri"]: _resolve(video["ref"], store) for video in content["videos"]}
        card = DatasetCard.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"not a dataset card: {explain(error, DatasetCard)}", place=place) from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError("not a dataset card", place=place, remedy="import or render the dataset again") from None
    table = pq.read_table(io.BytesIO(store.get(ROWS_NAME, sha256=card.label_sha256)))
    events = None
    if store.exists(EVENTS_NAME):
        events = _renamed(pq.read_table(io.BytesIO(store.get(EVENTS_NAME))), names).cast(EVENTS)
    return Dataset(card, check_rows(_renamed(table, names), store.uri_of(ROWS_NAME)), events)


def _resolve(ref: dict[str, object], store: Store) -> str:
    """Replace a relative name in ``ref`` by the URI and identity that the video has now; the URI."""
    name = str(ref["uri"])
    if "://" not in name:
        now = stat(store.uri_of(name.rstrip("/")) + ("/" if name.endswith("/") else ""))
        if now.size_bytes != ref["size_bytes"]:
            raise ConfigError(
                f"the dataset's video has {now.size_bytes} bytes, but its card says {ref['size_bytes']}", now.uri,
                remedy="restore the video or make the dataset again",
            )  # fmt: skip
        ref.update(now.model_dump(exclude={"stream"}))
    return str(ref["uri"])


def _inside(uri: str, store: Store) -> str:
    """The video's name relative to the store if it lies inside, else its URI."""
    path, root = local_path(uri), local_path(store.uri)
    if path is not None and root is not None:
        slash = "/" if uri.endswith("/") else ""
        return PurePosixPath(path.relative_to(root)).as_posix() + slash if path.is_relative_to(root) else uri
    return uri.removeprefix(store.uri + "/")


def _renamed(rows: pa.Table, names: dict[str, str]) -> pa.Table:
    """``rows`` with the videos' names replaced."""
    videos = pc.dictionary_encode(rows["video"]).combine_chunks()
    if isinstance(videos, pa.ChunkedArray):
        videos = (
            pa.concat_arrays(videos.chunks)
            if videos.num_chunks
            else pa.array([], pa.dictionary(pa.int32(), pa.string()))
        )
    words = [names.get(name, name) for name in videos.dictionary.to_pylist()]
    column = pa.DictionaryArray.from_arrays(videos.indices, pa.array(words, pa.string())).cast(pa.string())
    return rows.set_column(rows.schema.get_field_index("video"), rows.schema.field("video"), column)


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()

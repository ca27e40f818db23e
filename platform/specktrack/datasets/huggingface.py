"""A folder as Hugging Face's ``datasets`` loads it: rows as Parquet, and a README.md that is the card of the dataset.

    README.md                     front matter that names the files, then what is in them
    data/train-00000-of-N.parquet

Words are plain text there, which every reader of Parquet takes; all row columns are kept.
"""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specktrack import __version__
from specktrack.datasets.lines import VideoRows
from specktrack.datasets.row_files import rows_at
from specktrack.errors import ConfigError
from specktrack.schema import ROWS, Visibility
from specktrack.storage import Store, open_store

CARD = "README.md"
MOST_ROWS = 2_000_000
"""In one file: about 60 MB."""
_ABOUT = {
    "video": "URI of the video",
    "frame": "number of the picture, from 0, in the order in which they are shown",
    "pts_s": "its presentation time, seconds",
    "object": "0 where one object is followed",
    "x": "centre, source px from the centre of the first pixel; empty where absent",
    "y": "the same",
    "w": "width of its box, source px; empty for points",
    "h": "height of its box",
    "visibility": "absent, clear, blurred or occluded",
    "score": "the probability that the row is right; empty for labels",
    "provenance": "labelled, detected, tracked, interpolated or inpainted",
    "gap": "length of the gap that a filled row belongs to, else 0",
    "kind": "what the object is, where somebody asked",
    "kind_score": "the probability of that",
}


def write_huggingface(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """The card and the rows of all videos."""
    tables = [track.to_rows(video.uri, object_id=number) for video in videos for number, track in video.tracks.items()]
    rows = _plain(pa.concat_tables(tables))
    parts = range(0, max(1, rows.num_rows), MOST_ROWS)
    files = {CARD: _card(rows).encode()}
    for number, start in enumerate(parts):
        sink = io.BytesIO()
        pq.write_table(rows.slice(start, MOST_ROWS), sink, compression="zstd")
        files[f"data/train-{number:05d}-of-{len(parts):05d}.parquet"] = sink.getvalue()
    return files


def _plain(rows: pa.Table) -> pa.Table:
    """Dictionary columns as text."""
    text = [pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type, f.nullable) for f in ROWS]
    return rows.cast(pa.schema(text))


def _card(rows: pa.Table) -> str:
    shown = pc.sum(pc.not_equal(rows["visibility"], Visibility.ABSENT.value)).as_py() or 0
    videos = pc.count_distinct(rows["video"]).as_py()
    columns = "\n".join(f"| `{name}` | {rows.schema.field(name).type} | {_ABOUT[name]} |" for name in ROWS.names)
    return f"""---
pretty_name: Rows of specktrack
tags:
- object-tracking
- specktrack
task_categories:
- object-detection
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
# Rows of specktrack

Where a tiny, fast object is in each frame of {videos} videos: {rows.num_rows} rows, {shown} of them with a position.
Written by specktrack {__version__}. The videos are not part of the dataset: `video` names them.

```python
from datasets import load_dataset
rows = load_dataset("FOLDER", split="train")
```

| column | type | meaning |
|---|---|---|
{columns}

`specktrack data import huggingface FOLDER labels` makes labels of it again.

## Licence
Say here under which terms the rows and the videos may be used.
"""


def is_huggingface(store: Store) -> bool:
    """Whether a folder holds rows in that form."""
    return store.exists(CARD) and bool(_files(store))


def read_huggingface(place: str) -> pa.Table:
    """Rows of all files below ``data/``; ConfigError if there are none."""
    store = open_store(place)
    files = _files(store)
    tables = [rows for key in files if (rows := rows_at(store.uri_of(key))) is not None]
    if not tables:
        raise ConfigError("no Parquet files of rows below data/", place, remedy="give the folder that has README.md")
    return pa.concat_tables(tables).unify_dictionaries()


def _files(store: Store) -> list[str]:
    return sorted(info.key for info in store.list("data/") if info.key.endswith(".parquet"))

"""Benchmarks of box tracking as datasets: rows with sizes, on folders of pictures that stay where they are."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from specktrack.datasets.benchmarks import Benchmark, BoxSequence, read_benchmark
from specktrack.datasets.dataset import Dataset, DatasetVideo, make_dataset
from specktrack.errors import ConfigError, LabelError, MediaError
from specktrack.schema import ROWS, VideoRef
from specktrack.storage import frame_names, stat, to_uri
from specktrack.video.confined import probe

BENCHMARKS = ("otb", "lasot", "got10k", "trackingnet", "uav", "latot")
"""Names under which their layouts are imported; which of them it is follows from where the labels lie."""


def read_boxes_dataset(
    place: str, *, split: str | None = None, labels_only_wh_px: tuple[int, int] | None = None
) -> Dataset:
    """The benchmark at ``place``, or one of its splits, as a dataset.

    LabelError where pictures are missing, unless their size is given; ConfigError for a split that is not listed there.
    """
    benchmark: Benchmark = read_benchmark(place)
    notes: tuple[str, ...] = ()
    if split is not None:
        benchmark, notes = benchmark.split(split, place), (f"only the {split} split",)
    elif "test" in benchmark.splits:
        notes = ("all sequences, those of the test split too",)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda sequence: _part(sequence, labels_only_wh_px), benchmark.sequences))
    return make_dataset(
        pa.concat_tables([rows for rows, _ in parts]).combine_chunks(),
        tuple(video for _, video in parts),
        name=benchmark.name,
        layout=benchmark.layout,
        source=to_uri(place),
        notes=notes,
    )


def _part(sequence: BoxSequence, labels_only_wh_px: tuple[int, int] | None) -> tuple[pa.Table, DatasetVideo]:
    rows, uri, n = sequence.to_rows(), sequence.frames_uri, len(sequence.label_xywh)
    try:
        ref = stat(uri)
    except ConfigError:
        if labels_only_wh_px is None:
            raise LabelError(
                "a sequence without its pictures", sequence.name, uri, "labels_only_wh_px imports labels alone"
            ) from None
        width, height = sequence.wh_px or labels_only_wh_px
        nowhere = VideoRef(uri=uri, etag="", size_bytes=0)
        return rows, DatasetVideo(
            ref=nowhere, width_px=width, height_px=height, fps=30.0, frames=n, labels_only=True
        )  # fmt: skip
    try:
        info = probe(ref)
    except MediaError as error:
        raise LabelError(f"pictures that cannot be read: {error}", sequence.name) from None
    pictures = frame_names(ref.uri)
    offset = pictures.index(sequence.first_picture) if sequence.first_picture in pictures else 0
    if offset + n > len(pictures):
        raise LabelError(f"{n} boxes from picture {offset} on, and {len(pictures)} pictures", sequence.name, uri)
    frame = pc.add(rows["frame"], offset)
    rows = rows.set_column(rows.column_names.index("frame"), ROWS.field("frame"), frame)
    seconds = pc.divide(pc.cast(frame, pa.float64()), info.fps)
    rows = rows.set_column(rows.column_names.index("pts_s"), ROWS.field("pts_s"), seconds)
    return rows, DatasetVideo(
        ref=ref, width_px=info.width_px, height_px=info.height_px, fps=info.fps, frames=info.frames
    )  # fmt: skip

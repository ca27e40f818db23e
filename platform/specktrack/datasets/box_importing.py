"""Benchmarks of box tracking as datasets: rows with sizes, on folders of pictures that stay where they are."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa

from specktrack.datasets.benchmarks import Benchmark, BoxSequence, read_benchmark
from specktrack.datasets.dataset import Dataset, DatasetVideo, make_dataset
from specktrack.datasets.importing import ImportOptions
from specktrack.datasets.label_files import VideoFinder
from specktrack.errors import ConfigError, LabelError, MediaError
from specktrack.schema import ROWS, VideoRef
from specktrack.storage import frame_names, open_store, stat, to_uri
from specktrack.video import frame_times, probe


def read_boxes_dataset(name: str, place: str, options: ImportOptions) -> Dataset:
    """The benchmark at ``place``, or one of its splits, as a dataset; ``name`` is that of its format.

    LabelError where pictures are missing, unless their size is given; ConfigError for a split that is not listed there.
    """
    benchmark: Benchmark = read_benchmark(place)
    notes: tuple[str, ...] = ()
    if options.split is not None:
        benchmark, notes = benchmark.split(options.split, place), (f"only the {options.split} split",)
    elif "test" in benchmark.splits:
        notes = ("all sequences, including those of the test split",)
    origin_px = 1 if name == "otb" and benchmark.layout == "flat" else None  # results, which count as the labels do
    source = to_uri(place)
    folder = source.rpartition("/")[0] if source.endswith(".json") else source
    elsewhere = open_store(options.videos) if options.videos is not None else None
    finder = VideoFinder(open_store(folder), elsewhere)

    def part(sequence: BoxSequence) -> tuple[pa.Table, DatasetVideo]:
        counted = sequence if origin_px is None else replace(sequence, origin_px=origin_px)
        return _part(counted, finder, options)

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(part, benchmark.sequences))
    return make_dataset(
        pa.concat_tables([rows for rows, _ in parts]).combine_chunks(),
        tuple(video for _, video in parts),
        name=benchmark.name,
        layout=name,
        source=source,
        notes=notes,
    )


def _part(sequence: BoxSequence, finder: VideoFinder, options: ImportOptions) -> tuple[pa.Table, DatasetVideo]:
    uri, n = sequence.frames_uri, len(sequence.label_xywh)
    try:
        ref = stat(uri, stream=options.stream)
    except ConfigError:
        found = finder.named(sequence.name)
        if found is None and options.labels_only_wh_px is not None:
            width, height = sequence.wh_px or options.labels_only_wh_px
            nowhere = VideoRef(uri=uri, etag="", size_bytes=0)
            return sequence.to_rows(), DatasetVideo(
                ref=nowhere, width_px=width, height_px=height, fps=30.0, frames=n, labels_only=True
            )  # fmt: skip
        if found is None:
            remedy = "give their place with --videos, or import only the labels with --labels-only-wh-px"
            raise LabelError("a sequence without its pictures", sequence.name, uri, remedy) from None
        ref = stat(found, stream=options.stream)
    try:
        info = probe(ref)
        times_s = frame_times(ref, info)
    except MediaError as error:
        raise LabelError(f"pictures cannot be read: {error}", sequence.name) from None
    pictures = frame_names(ref.uri) if ref.uri.endswith("/") else []
    offset = pictures.index(sequence.first_picture) if sequence.first_picture in pictures else 0
    if offset + n > info.frames:
        raise LabelError(f"{n} boxes from picture {offset} on, and {info.frames} pictures", sequence.name, ref.uri)
    frame = np.arange(offset, offset + n)
    columns = {
        "video": pa.array([ref.uri] * n), "frame": pa.array(frame), "pts_s": pa.array(times_s[frame], pa.float64())
    }  # fmt: skip
    rows = sequence.to_rows()
    rows = pa.table({name: columns.get(name, rows[name]) for name in ROWS.names}).cast(ROWS)
    return rows, DatasetVideo(
        ref=ref, width_px=info.width_px, height_px=info.height_px, fps=info.fps, frames=info.frames
    )  # fmt: skip

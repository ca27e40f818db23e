"""Rows that a person has checked, as labels of their videos."""

import pyarrow as pa
import pyarrow.compute as pc

from specktrack.datasets.dataset import Dataset, DatasetVideo, make_dataset
from specktrack.datasets.importing import ImportOptions
from specktrack.datasets.label_files import VideoFinder, file_name
from specktrack.datasets.row_files import check_frames
from specktrack.errors import ConfigError, StorageError
from specktrack.frames import split_by_video
from specktrack.schema import ROWS, Provenance, VideoRef
from specktrack.storage import open_store, stat, to_uri
from specktrack.video import probe


def labels_of_rows(rows: pa.Table, place: str, options: ImportOptions) -> Dataset:
    """Rows that a person has checked, as labels of their videos: without score, labelled unless they fill a gap.

    Videos that are elsewhere now are found by file name. ConfigError for one that is not there, unless the size of its
    pictures is given.
    """
    finder = VideoFinder(open_store(options.videos)) if options.videos is not None else None
    labelled, tables = [], []
    for uri, table in split_by_video(rows).items():
        video = _video_of_rows(table, uri, finder, options)
        check_frames(table, video.frames, place)
        words = table["provenance"].cast(pa.string())
        filled = pc.is_in(words, pa.array([Provenance.INTERPOLATED.value, Provenance.INPAINTED.value]))
        columns = {
            "video": pa.array([video.ref.uri] * len(table)), "score": pa.nulls(len(table), pa.float32()),
            "kind_score": pa.nulls(len(table), pa.float32()),
            "provenance": pc.if_else(filled, words, Provenance.LABELLED.value),
        }  # fmt: skip
        tables.append(pa.table({name: columns.get(name, table[name]) for name in ROWS.names}).cast(ROWS))
        labelled.append(video)
    if not tables:
        raise ConfigError("no rows", place=place)
    whole = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    source = to_uri(place)
    name = VideoRef(uri=source, etag="", size_bytes=0).name
    return make_dataset(whole, tuple(labelled), name=name, layout="rows", source=source)


def _video_of_rows(rows: pa.Table, uri: str, finder: VideoFinder | None, options: ImportOptions) -> DatasetVideo:
    try:
        ref = stat((finder.named(file_name(uri)) if finder else None) or uri, stream=options.stream)
    except (ConfigError, StorageError) as error:
        if options.labels_only_wh_px is None:
            if isinstance(error, StorageError):
                raise
            remedy = "give the videos' place with --videos, or import only the labels with labels_only_wh_px"
            raise ConfigError("the video of the rows does not exist", uri, remedy=remedy) from None
        frames = pc.max(rows["frame"]).as_py() + 1
        width, height = options.labels_only_wh_px
        ref = VideoRef(uri=uri, etag="", size_bytes=0)
        return DatasetVideo(ref=ref, width_px=width, height_px=height, fps=30.0, frames=frames, labels_only=True)
    info = probe(ref)
    return DatasetVideo(ref=ref, width_px=info.width_px, height_px=info.height_px, fps=info.fps, frames=info.frames)

"""The main task in a minute: an archive of small videos, annotated on Ray, drawn, evaluated and exported."""

import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from specktrack import telemetry
from specktrack.annotating import AnnotateConfig, annotate
from specktrack.config import Config, VerbConfig
from specktrack.datasets import export_rows
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.evaluate import EvaluateConfig, EvaluationReport
from specktrack.evaluate.points import evaluate
from specktrack.ledger import read_annotations
from specktrack.models.checkpoint import model_path
from specktrack.schema import Clip, VideoRef
from specktrack.storage import stat, to_uri
from specktrack.storage.places import Place
from specktrack.tracking.following import Following
from specktrack.video import probe, read_clip

_ARCHIVE = SynthConfig(videos=3, frames=90, width_px=640, height_px=360, seed=11, cuts_per_minute=0)
_CONTACT_COLUMNS, _CONTACT_ROWS, _TILE_WH = 4, 3, (480, 270)


class DemoConfig(VerbConfig, Following):
    """Render a small archive, annotate it and show the results."""

    verb: ClassVar[str] = "demo"

    video: Place | None = None
    """Your own video; by default, three short rallies are rendered."""
    output: Place = "demo-output"
    """Folder for all output."""
    address: str | None = None
    """Ray cluster: auto, local or an address; by default, this process does the little work there is."""


class DemoReport(Config):
    """The demo's result: accuracy, speed and where the files lie."""

    videos: int
    frames: int
    found: int
    """Frames in which the object was found."""
    wall_s: float
    """From nothing to all rows and overlays, Ray's start included."""
    frames_per_s: float
    """From the first frame decoded to the last row written."""
    accuracy: float | None
    """Share of frames that are right within 4 px at 512x288, where the truth is known."""
    f1: float | None
    error_px_p50: float | None
    rows: str
    csv: str
    overlays: tuple[str, ...]
    picture: str | None
    """Frames of the overlays; None where no video could be annotated."""
    quarantined: dict[str, int]
    """Clips set aside, by reason."""
    exit_code: int


def demo(config: DemoConfig) -> DemoReport:
    """Run the whole way from videos to rows, overlays, a CSV file and, for rendered videos, a comparison with truth."""
    log = telemetry.get_logger()
    folder = Path(config.output).absolute()
    source = config.video
    model_path(config.model)  # CheckpointError before anything is rendered
    if source is None:
        source = str(folder / "archive")
        log.info("rendering an archive", videos=_ARCHIVE.videos, frames=_ARCHIVE.videos * _ARCHIVE.frames, to=source)
        write_archive(_ARCHIVE, source)
    output = str(folder / "annotations")
    start = time.perf_counter()
    settings = {"address": config.address, "overlay": True, "resume": False}
    following = Following.of(config.model, config).model_dump()
    done = annotate(AnnotateConfig(sources=(source,), output=output, **settings, **following))
    wall_s = time.perf_counter() - start
    rows = read_annotations(output)
    scores = _compare(source, output, folder) if config.video is None else None
    export_rows(rows, "csv", str(folder / "rows.csv"))
    overlays = sorted((folder / "annotations" / "overlays").glob("*.mp4"))
    picture = str(_contact_picture(overlays, rows, folder / "contact.png")) if overlays else None
    return DemoReport(
        videos=len(pc.unique(rows["video"])),
        frames=rows.num_rows,
        found=rows.num_rows - rows["x"].null_count,
        wall_s=round(wall_s, 1),
        frames_per_s=done.frames_per_s,
        accuracy=scores.accuracy if scores else None,
        f1=scores.f1 if scores else None,
        error_px_p50=scores.error_px["p50"] if scores else None,
        rows=output,
        csv=str(folder / "rows.csv"),
        overlays=tuple(map(str, overlays)),
        picture=picture,
        quarantined=done.quarantined,
        exit_code=done.exit_code,
    )


def _compare(archive: str, output: str, folder: Path) -> EvaluationReport:
    """The rows against the truth that the archive was rendered from."""
    return evaluate(EvaluateConfig(data=archive, predictions=output, output=str(folder / "evaluation")))


def _contact_picture(overlays: list[Path], rows: pa.Table, path: Path) -> Path:
    """One PNG of overlay frames: some of each video, evenly spaced among those in which the object was found."""
    per_video = -(-_CONTACT_COLUMNS * _CONTACT_ROWS // max(len(overlays), 1))
    tiles = [pixels for overlay in overlays for pixels in _some_frames(overlay, rows, per_video)]
    sheet = Image.new("RGB", (_TILE_WH[0] * _CONTACT_COLUMNS, _TILE_WH[1] * _CONTACT_ROWS))
    for number, pixels in enumerate(tiles[: _CONTACT_COLUMNS * _CONTACT_ROWS]):
        row, column = divmod(number, _CONTACT_COLUMNS)
        picture = Image.fromarray(pixels)
        picture.thumbnail(_TILE_WH)
        sheet.paste(picture, (column * _TILE_WH[0], row * _TILE_WH[1]))
    sheet.save(path)
    return path


def _some_frames(overlay: Path, rows: pa.Table, count: int) -> list[np.ndarray]:
    """Frames uint8 [H, W, 3] of an overlay video, of those in which the object was found if there are enough."""
    ref = stat(to_uri(str(overlay)))
    info = probe(ref)
    mine = [VideoRef(uri=uri, etag="", size_bytes=0).name == overlay.stem for uri in rows["video"].to_pylist()]
    found = rows.filter(pc.and_(pa.array(mine, pa.bool_()), pc.is_valid(rows["x"])))["frame"].to_numpy()
    pool = found[found < info.frames] if len(found) >= count else np.arange(info.frames)
    wanted = set(pool[np.linspace(0, len(pool) - 1, count + 2).astype(int)[1:-1]].tolist())
    chosen: list[np.ndarray] = []
    with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info) as clip:
        for batch in clip:
            chosen += [batch.pixels[i] for i, frame in enumerate(batch.frame) if int(frame) in wanted]
    return chosen

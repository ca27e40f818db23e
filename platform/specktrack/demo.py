"""The main job in a minute: an archive of small videos, annotated on Ray, drawn, measured and exported."""

import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from specktrack import telemetry
from specktrack.annotate import AnnotateConfig, annotate
from specktrack.config import Config, VerbConfig
from specktrack.datasets import export_rows
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.evaluate import EvaluateConfig, EvaluationReport, evaluate
from specktrack.ledger import read_annotations
from specktrack.models import DEFAULT_MODEL
from specktrack.schema import Clip
from specktrack.storage import stat, to_uri
from specktrack.video import probe, read_clip

_ARCHIVE = SynthConfig(videos=3, frames=90, width_px=640, height_px=360, seed=11, cuts_per_minute=0)
_CONTACT_COLUMNS, _CONTACT_ROWS = 4, 3


class DemoConfig(VerbConfig):
    """Make a small archive, annotate it, and show what comes out."""

    verb: ClassVar[str] = "demo"

    video: str | None = None
    """Your own video; without one, three short rallies are rendered."""
    output: str = "demo-output"
    """Folder for everything that is written."""
    model: str = DEFAULT_MODEL
    """Name in the zoo, or path of a checkpoint."""
    address: str = "auto"
    """Ray cluster: auto, local or an address."""


class DemoReport(Config):
    """What was found, how fast, and where it lies."""

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
    picture: str
    exit_code: int


def demo(config: DemoConfig) -> DemoReport:
    """Run the whole way from videos to rows, overlays, a CSV file and, for rendered videos, a comparison with truth."""
    log = telemetry.get_logger()
    folder = Path(config.output).absolute()
    source = config.video
    if source is None:
        source = str(folder / "archive")
        log.info("rendering an archive", videos=_ARCHIVE.videos, frames=_ARCHIVE.videos * _ARCHIVE.frames, to=source)
        write_archive(_ARCHIVE, source)
    output = str(folder / "annotations")
    start = time.perf_counter()
    settings = {"model": config.model, "address": config.address, "overlay": True, "resume": False}
    done = annotate(AnnotateConfig(sources=(source,), output=output, **settings))
    wall_s = time.perf_counter() - start
    rows = read_annotations(output)
    scores = _compare(source, output, folder) if config.video is None else None
    export_rows(rows, "csv", str(folder / "rows.csv"))
    overlays = sorted((folder / "annotations" / "overlays").glob("*.mp4"))
    picture = _contact_picture(overlays, folder / "contact.png")
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
        picture=str(picture),
        exit_code=done.exit_code,
    )


def _compare(archive: str, output: str, folder: Path) -> EvaluationReport:
    """The rows against the truth that the archive was rendered from."""
    return evaluate(EvaluateConfig(data=archive, predictions=output, output=str(folder / "evaluation")))


def _contact_picture(overlays: list[Path], path: Path) -> Path:
    """One PNG of overlay frames, evenly spaced over all videos."""
    tiles = []
    per_video = -(-_CONTACT_COLUMNS * _CONTACT_ROWS // max(len(overlays), 1))
    for overlay in overlays:
        ref = stat(to_uri(str(overlay)))
        info = probe(ref)
        wanted = set(np.linspace(0, info.frames - 1, per_video + 2).astype(int)[1:-1].tolist())
        with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info) as clip:
            for batch in clip:
                tiles += [
                    pixels for frame, pixels in zip(batch.frame, batch.pixels, strict=True) if int(frame) in wanted
                ]
    tile_wh = (480, 270)
    sheet = Image.new("RGB", (tile_wh[0] * _CONTACT_COLUMNS, tile_wh[1] * _CONTACT_ROWS))
    for number, pixels in enumerate(tiles[: _CONTACT_COLUMNS * _CONTACT_ROWS]):
        row, column = divmod(number, _CONTACT_COLUMNS)
        picture = Image.fromarray(pixels)
        picture.thumbnail(tile_wh)
        sheet.paste(picture, (column * tile_wh[0], row * tile_wh[1]))
    sheet.save(path)
    return path

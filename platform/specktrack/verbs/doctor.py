"""Check that this machine can run specktrack; every failed check says what to do."""

import os
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from specktrack import __version__
from specktrack.config import Config, VerbConfig
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.frames import FrameBatch, Viewport
from specktrack.models.checkpoint import load_model
from specktrack.models.zoo import DEFAULT_MODEL, ModelPlace
from specktrack.schema import Clip
from specktrack.storage import stat, to_uri
from specktrack.tracking.tracker import tracker_of
from specktrack.video import landlock, write_video
from specktrack.video.process import DecoderProcess
from specktrack.video.unconfined import probe, read_clip

_LOW_MEMORY_GIB = 4.0
_LOW_DISK_GIB = 2.0


class DoctorConfig(VerbConfig):
    """Check this machine."""

    verb: ClassVar[str] = "doctor"

    model: ModelPlace = DEFAULT_MODEL
    """The model to try."""


class Check(Config):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class DoctorReport(Config):
    """All checks."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 if everything that is needed is there."""
        return 0 if all(check.ok for check in self.checks) else ConfigError.exit_code


def doctor(config: DoctorConfig) -> DoctorReport:
    """Look at versions, the device, a round trip through the video codec, the model, and the room that is left."""
    checks = (_versions(), _device(), _video(), _decoder(), _model(config.model), _memory(), _disk(), _storage())
    return DoctorReport(checks=checks)


def _versions() -> Check:
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "pyarrow", "av", "numpy"))
    python = ".".join(map(str, sys.version_info[:3]))
    return Check(name="versions", ok=True, detail=f"specktrack {__version__}, Python {python}, {packages}")


def _device() -> Check:
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        detail = f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        return Check(name="device", ok=True, detail=detail)
    return Check(name="device", ok=True, detail=f"CPU, {len(os.sched_getaffinity(0))} cores; no CUDA device")


def _video() -> Check:
    """Write eight grey frames as H.264 and read them back."""
    frames = [np.full((64, 96, 3), 20 * index, np.uint8) for index in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.mp4"
        try:
            write_video(path, frames, fps=25, wh=(96, 64))
            ref = stat(to_uri(str(path)))
            info = probe(ref)
            with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info) as clip:
                grey = np.concatenate([batch.pixels.mean(axis=(1, 2, 3)) for batch in clip])
        except SpecktrackError as error:
            return Check(name="video", ok=False, detail=str(error), remedy="reinstall PyAV: pip install --force av")
    ok = len(grey) == len(frames) and bool(np.abs(grey - 20 * np.arange(8)).max() < 4)
    return Check(name="video", ok=ok, detail=f"H.264 written and read back: {len(grey)} of {len(frames)} frames")


def _decoder() -> Check:
    """Have a decoder process decode a picture, and see whether the kernel filters what it asks for."""
    picture = BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    try:
        with DecoderProcess() as decoder:
            decoder.picture(picture.getvalue())
            status = Path(f"/proc/{decoder.pid}/status")
            confined = status.exists() and "\nSeccomp:\t2\n" in status.read_text()
    except SpecktrackError as error:
        return Check(name="decoder", ok=False, detail=str(error), remedy="see the log above")
    if confined:
        known = landlock.version()
        files = f"only its own code, by Landlock {known}" if known else "none, because this kernel has no Landlock"
        detail = f"its own process, confined: limits, a filter for system calls; files it can open: {files}"
        return Check(name="decoder", ok=True, detail=detail)
    remedy = "decode untrusted video on Linux, x86_64 or aarch64, with seccomp in the kernel"
    return Check(name="decoder", ok=True, detail="its own process with limits, but no filter", remedy=remedy)


def _model(name: str) -> Check:
    try:
        model = load_model(name)
    except SpecktrackError as error:
        return Check(name="model", ok=False, detail=str(error), remedy="choose another with --model")
    width, height = model.config.input_wh
    viewport = Viewport((width, height), (width, height))
    pixels = np.zeros((2 * model.config.frames_in, height, width, 3), np.uint8)
    count = np.arange(len(pixels))
    # torch's threads wait by spinning: beside anything else that is at work, one core less is many times faster.
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    tracker = tracker_of(model)
    for _ in range(2):  # the first pass also sets things up; the second is the rate
        session, start = tracker.open(), time.perf_counter()
        rows = len(session.push(FrameBatch(pixels, count, count / 25, viewport))) + len(session.finish())
        rate = len(pixels) / (time.perf_counter() - start)
    detail = f"{name}: {rows} rows from {len(pixels)} frames of {width}x{height}, tracked at {rate:.0f} frames/s"
    return Check(name="model", ok=rows == len(pixels), detail=detail)


def _memory() -> Check:
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    ok = gib >= _LOW_MEMORY_GIB
    return Check(
        name="memory", ok=ok, detail=f"{gib:.1f} GiB", remedy="" if ok else f"Ray wants {_LOW_MEMORY_GIB:.0f} GiB"
    )


def _disk() -> Check:
    folder = tempfile.gettempdir()
    gib = shutil.disk_usage(folder).free / 2**30
    ok = gib >= _LOW_DISK_GIB
    return Check(name="disk", ok=ok, detail=f"{gib:.1f} GiB free below {folder}", remedy="" if ok else "set TMPDIR")


def _storage() -> Check:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    where = f"S3 at {endpoint}" if endpoint else "S3 at AWS (set AWS_ENDPOINT_URL for another server)"
    return Check(name="storage", ok=True, detail=f"local files; {where}")

"""What tests of whole annotate runs share: an archive, a model, a run, and a way to find the run's processes."""

from pathlib import Path

import numpy as np
import torch

from specktrack.annotating import AnnotateConfig
from specktrack.models import zoo
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.video import write_video

WH = (128, 64)


def make_video(path: Path, frames: int, *, seed: int = 0) -> Path:
    """A spot that flies over noise."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 60, (WH[1], WH[0], 3), dtype=np.uint8)

    def picture(i: int) -> np.ndarray:
        pixels = noise.copy()
        x, y = 10 + i % 100, 10 + (i * 3 + seed) % 40
        pixels[y : y + 4, x : x + 4] = 250
        return pixels

    path.parent.mkdir(exist_ok=True)
    write_video(path, (picture(i) for i in range(frames)), fps=30, wh=WH)
    return path


def two_videos(folder: Path) -> Path:
    """An archive of 220 and 50 frames."""
    make_video(folder / "a long one.mp4", 220)
    make_video(folder / "short.mp4", 50, seed=1)
    return folder


def tiny_model(path: Path) -> str:
    """A tiny network with fixed random weights: its rows mean nothing, but any change of them shows."""
    torch.manual_seed(0)
    config = zoo.network_config({"name": "specknet", "frames_in": 4, "input_wh": WH, "widths": (4, 8, 8, 8)})
    save_model(path, zoo.build(config).eval(), ModelCard(name="tiny", network=config))
    return str(path)


def run(model: str, output: str | Path, *sources: str | Path, **more: object) -> AnnotateConfig:
    return AnnotateConfig(
        sources=tuple(map(str, sources)), output=str(output), model=model, clip_s=1.5, **{"workers": 2, **more}
    )


def pids_of(title: str) -> list[int]:
    """Processes of this user whose title begins like this."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "cmdline").read_bytes().startswith(title.encode()):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found

"""Whether a clip is followed as well at 120 and 60 frames/s as at 30: the same rendered rallies, frames left out.

    python benchmarks/frame_rates.py [--model specknet] [--videos 4]

A rally is rendered at 120 frames/s; every second and every fourth of its frames make the clips at 60 and 30. All are
followed at the time step that the model was taught, and once more frame after frame. F1 at 4 px in 512x288 over the
frames that a clip has; the last column counts, of all clips, just the frames that the one at 30 has. Leaves its numbers
in docs/results/frame_rates.json.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import specktrack
from specktrack.datasets.synthetic import RenderedFrame, SynthConfig, render_clip
from specktrack.metrics.points import count_points
from specktrack.video import write_video

RESULT = Path(__file__).parents[1] / "docs" / "results" / "frame_rates.json"
FULL_FPS = 120
WIDTH_PX, HEIGHT_PX = 1280, 720
READINGS = (("as taught", None), ("frame after frame", 0.0))


def followed(clip: list[RenderedFrame], fps: float, model: str, time_step: float | None) -> np.ndarray:
    """Positions [N, 2] in px, NaN where absent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, (frame.pixels for frame in clip), fps=fps, wh=(WIDTH_PX, HEIGHT_PX))
        rows = specktrack.annotate(str(path), model=model, time_step=time_step)
    return np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)


def f1(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Of positions and labels, each [N, 2]."""
    found, label = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return count_points(found, label, tolerance=4.0, scale=(512 / WIDTH_PX, 288 / HEIGHT_PX)).f1


def main() -> None:
    """Render, follow at each rate, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="specknet")
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--frames", type=int, default=240, help="of each video, at 120 frames/s")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    config = SynthConfig(
        videos=options.videos, frames=options.frames, width_px=WIDTH_PX, height_px=HEIGHT_PX, fps=FULL_FPS,
        cuts_per_minute=0, seed=120,
    )  # fmt: skip
    rallies = [list(render_clip(config, index)) for index in range(options.videos)]
    rates = []
    for every, (reading, time_step) in ((every, way) for every in (1, 2, 4) for way in READINGS):
        fps = FULL_FPS / every
        label = [np.array([frame.xy_px for frame in rally[::every]]) for rally in rallies]
        found = [followed(rally[::every], fps, options.model, time_step) for rally in rallies]
        common = 4 // every
        rates.append(
            {
                "fps": fps,
                "reading": reading,
                "f1": f1(list(zip(found, label, strict=True))),
                "f1_common_frames": f1([(a[::common], b[::common]) for a, b in zip(found, label, strict=True)]),
            }
        )
        print(rates[-1], flush=True)
    values = {"model": Path(options.model).stem, "videos": options.videos, "frames": options.frames, "rates": rates}
    options.output.write_text(
        json.dumps(values | {"date": time.strftime("%Y-%m-%d")}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()

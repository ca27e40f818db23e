"""The cells of docs/tour.ipynb, which docs/make_notebook.py runs."""

# %% [markdown]
# # A tour
# From a video to rows, a look at them, and how right they are. Everything here runs on a CPU; the video is rendered, so
# that the truth is known.

# %%
import tempfile

import numpy as np
import pyarrow.compute as pc
from PIL import Image

import specktrack
from specktrack.datasets import export_rows, load_dataset
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.evaluate import EvaluateConfig, evaluate
from specktrack.frames import trajectories
from specktrack.overlay import draw_positions
from specktrack.schema import Clip
from specktrack.video import read_clip

folder = tempfile.mkdtemp()
card = write_archive(
    SynthConfig(videos=1, frames=36, width_px=480, height_px=270, sport="badminton"), f"{folder}/archive"
)
video = card.videos[0]
f"{video.frames} frames of {video.width_px}x{video.height_px}, {card.rows} labels"

# %% [markdown]
# ## Follow
# One call, in this process. On a cluster it is `specktrack annotate`, with the same rows.

# %%
rows = specktrack.annotate(f"{folder}/archive/videos")
rows.select(["frame", "pts_s", "x", "y", "visibility", "score", "provenance"]).slice(12, 6).to_pandas()

# %% [markdown]
# ## Look
# A row's position is where the object is in the frame of its number: the ring is drawn there.

# %%
found = next(iter(trajectories(rows).values()))[0]
frame = int(found.frame[found.present][8])
with read_clip(
    Clip(video=load_dataset(f"{folder}/archive").card.videos[0].ref, start=frame, stop=frame + 1)
) as batches:
    pixels = next(iter(batches)).pixels[0]
trail = found.between(max(0, frame - 15), frame + 1)
Image.fromarray(draw_positions(pixels, [trail], frame=frame, pts_s=frame / 30))

# %% [markdown]
# ## Count
# Labels and rows have one schema, so this is a join by video and frame.

# %%
export_rows(rows, "parquet", f"{folder}/rows.parquet")
report = evaluate(EvaluateConfig(data=f"{folder}/archive", predictions=f"{folder}/rows.parquet"))
print(report.headline, {name: report.counts[name] for name in ("tp", "tn", "fp1", "fp2", "fn")})
print("error in source px:", {name: round(value, 2) for name, value in report.error_px.items()})

# %% [markdown]
# ## Doubt
# Scores are probabilities. The frames to look at first are those of which they say least: `data pick` does it
# for whole archives.

# %%
doubt = np.where(found.present, 1 - found.score, np.nan_to_num(found.score))
{int(found.frame[i]): round(float(doubt[i]), 2) for i in np.argsort(-doubt)[:5]}

# %%
pc.value_counts(rows["provenance"]).to_pylist()

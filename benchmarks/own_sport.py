"""What correcting some of one's own footage brings: F1 on held-out videos after so many corrected frames.

    python benchmarks/own_sport.py DATA [--model specknet-court] [--frames 100 300 1000] [--steps 400] [--work DIR]

DATA is labelled video (any format of `data import`) of a sport that the model was not trained on: drones for
specknet-court. It goes through the walk of docs/how-to/my-own-sport.md, and the labels play the person: the model
follows the training videos, `data pick` takes clips, their labels are the correction, the recipe specknet-finetune
learns from them, `evaluate --against` counts on the test videos. Minutes on a GPU; on CPU cores an hour for each
number of frames. Leaves docs/results/own_sport.json.
"""

import argparse
import json
import os
import platform as machine
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

import specktrack
from specktrack.annotating import AnnotateConfig, annotate
from specktrack.correcting.picking import DataPickConfig, data_pick
from specktrack.datasets import Dataset, DatasetVideo, load_dataset, make_dataset, save_dataset, split_dataset
from specktrack.evaluate import EvaluateConfig, evaluate
from specktrack.storage import open_store, stat, to_uri
from specktrack.training import TrainConfig, recipe_path, train
from specktrack.video.unconfined import probe

RESULT = Path(__file__).parents[1] / "docs" / "results" / "own_sport.json"
CLIP_S = 2.0


def corrected(picked: Path, truth: Dataset) -> str:
    """Labels of the clips in a folder that `data pick` wrote; the dataset's place."""
    videos, tables = [], []
    known = {video.ref.uri: video for video in truth.card.videos}
    for clip in json.loads((picked / "picked.json").read_text())["clips"]:
        ref = stat(to_uri(str(picked / clip["name"])))
        info = probe(ref)
        track = truth.track(known[clip["video"]]).between(clip["start"], clip["stop"])
        shifted = type(track)(
            track.frame - clip["start"], track.pts_s - track.pts_s[:1], track.xy_px, track.score, track.visibility,
            track.provenance, track.wh_px, track.gap,
        )  # fmt: skip
        tables.append(shifted.to_rows(ref.uri))
        size = {"width_px": info.width_px, "height_px": info.height_px}
        videos.append(DatasetVideo(ref=ref, fps=info.fps, frames=info.frames, **size))
    rows = pa.concat_tables(tables).unify_dictionaries()
    dataset = make_dataset(rows, tuple(videos), name="corrected", layout="rows", source=str(picked))
    save_dataset(dataset, open_store(str(picked / "labels")))
    return str(picked / "labels")


def count(model: str, test: str, work: Path, against: str | None = None) -> dict[str, Any]:
    report = evaluate(EvaluateConfig(model=model, data=test, output=str(work), against=against))
    assert isinstance(report, specktrack.evaluate.EvaluationReport)
    gain = report.comparison.ratios["f1"] if report.comparison else None
    return {
        "f1": round(report.f1, 4), "precision": round(report.precision, 4), "recall": round(report.recall, 4),
        "f1_gain_95": [round(gain.low, 4), round(gain.high, 4)] if gain else None,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="specknet-court")
    parser.add_argument("--frames", type=int, nargs="*", default=[100, 300, 1000])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--work", type=Path, default=Path("own-sport"))
    given = parser.parse_args()
    split_dataset(load_dataset(given.data), str(given.work / "parts"), "video", test_share=0.3, val_share=0.0, seed=0)
    truth, test = load_dataset(str(given.work / "parts" / "train")), str(given.work / "parts" / "test")
    sources = tuple(video.ref.uri for video in truth.card.videos)
    annotate(AnnotateConfig(sources=sources, output=str(given.work / "before"), model=given.model))
    found = [{"frames": 0, **count(given.model, test, given.work / "scores" / "0")}]
    print(json.dumps(found[-1]), flush=True)
    fps = truth.card.videos[0].fps
    for frames in given.frames:
        started, folder = time.monotonic(), given.work / str(frames)
        clips = max(1, round(frames / (CLIP_S * fps)))
        before = str(given.work / "before")
        picked = data_pick(DataPickConfig(annotations=before, output=str(folder), clips=clips, clip_s=CLIP_S))
        settings = {"data": [corrected(folder, truth)], "output": str(folder / "run"), "init": given.model}
        settings |= {"steps": given.steps, "workers": 0}
        train(TrainConfig.parse(settings, yaml_file=recipe_path("specknet-finetune"), environment={}))
        scores = count(str(folder / "run"), test, given.work / "scores" / str(frames), str(given.work / "scores" / "0"))
        found.append({"frames": picked.frames, **scores, "minutes": round((time.monotonic() - started) / 60, 1)})
        print(json.dumps(found[-1]), flush=True)
    card = {
        "data": Path(given.data).name, "model": given.model, "steps": given.steps, "corrected": found,
        "machine": f"{os.cpu_count()} cores {machine.machine()}", "date": time.strftime("%Y-%m-%d"),
        "version": specktrack.__version__,
    }  # fmt: skip
    RESULT.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()

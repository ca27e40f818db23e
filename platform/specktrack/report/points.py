"""The page about an evaluation of points: counts, errors, which videos and which frames are wrong, and how."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specktrack.report import page
from specktrack.storage import Store

WORST = 45
"""Frames listed as the worst, of each kind a third."""
_COUNTS = ("tp", "tn", "fp1", "fp2", "fn")
_RATIOS = ("f1", "precision", "recall", "accuracy")
_MEANING = {
    "fp1": "found something else", "fp2": "found what is not there", "fn": "not found",
}  # fmt: skip


def evaluation_page(store: Store, content: Mapping[str, Any], drawn: int) -> str:
    """The page of ``evaluation.json`` and, where it is there, ``frames.parquet``; the worst videos are drawn."""
    frames = pq.read_table(io.BytesIO(store.get("frames.parquet"))) if store.exists("frames.parquet") else None
    names = page.short_names([video["video"] for video in content["per_video"]])
    ordered = sorted(content["per_video"], key=lambda video: video["at"][content["headline"]]["accuracy"])
    return page.document(
        f"{content['model'] or content['predictions']} on {content['data'].rstrip('/').rpartition('/')[2]}",
        f"protocol {content['protocol']}, headline: {content['headline']}; labels {content['data']}; {store.uri}",
        *_doubts(content),
        page.cards(_headline(content)),
        page.section("Counts", _counts(content), note="Each labelled frame counts once. " + _legend()),
        page.section("Position errors", *_errors(content, frames)),
        page.section("Scores", *_reliability(content), note="Of rows with score s a share s should be right."),
        page.section("Conditions", _conditions(content), note="A frame may be under several."),
        page.section("Videos", _videos(content, ordered, names), note="Worst accuracy first."),
        page.section("Worst frames", "" if frames is None else _worst(frames, names), note=_legend()),
        page.section("Trajectories", *([] if frames is None else _drawings(frames, ordered[:drawn], names)),
                     note=f"{min(drawn, len(ordered))} of {len(ordered)} videos, in the order of the table."),
    )  # fmt: skip


def _legend() -> str:
    return "; ".join(f"{name.upper()}: {text}" for name, text in _MEANING.items()) + "."


def _doubts(content: Mapping[str, Any]) -> list[str]:
    """Caveats for comparing the numbers."""
    told = [f"Not read: {video}: {reason}" for video, reason in content["unread"].items()]
    if content["missing"]:
        told.append(f"{content['missing']} labelled frames have no prediction and were counted as absent.")
    if content["beyond_labels"]:
        told.append(f"{content['beyond_labels']} predictions are for frames without a label and count for nothing.")
    if others := content.get("distractors"):
        found = f"{others['fp1']} FP1 and {others['fp2']} FP2 lie on one of them"
        told.append(f"Other objects are labelled in {others['frames']} frames; {found}.")
    return [page.doubt(text) for text in told]


def _headline(content: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {name.capitalize(): page.percent(content[name]) for name in _RATIOS}
    shown |= {"frames": content["frames"], "videos": len(content["per_video"])}
    shown["median error, px"] = content["error_px"]["p50"]
    if content.get("average_precision") is not None:
        shown["average precision"] = page.percent(content["average_precision"])
    return shown


def _counts(content: Mapping[str, Any]) -> str:
    head = ["tolerance", *(name.upper() for name in _COUNTS), *_RATIOS]
    lines = [_count_line(name, at) for name, at in content["at"].items()]
    windows = content.get("per_window") or {}
    lines += [_count_line(f"{name}, every output of every window", at) for name, at in windows.get("at", {}).items()]
    return page.table(head, lines)


def _count_line(name: str, at: Mapping[str, Any]) -> list[Any]:
    return [name, *(at[key] for key in _COUNTS), *(page.percent(at[key]) for key in _RATIOS)]


def _errors(content: Mapping[str, Any], frames: pa.Table | None) -> Iterator[str]:
    keys = ("p50", "p90", "p99", "mean")
    summaries = {"source px": content["error_px"], "px at 512x288": content["error_512x288_px"]}
    yield page.table(
        ["measured in", *keys], [[name, *(found[key] for key in keys)] for name, found in summaries.items()]
    )
    if frames is not None:
        errors = frames["error_px"].to_numpy(zero_copy_only=False).astype(float)
        drawing = page.histogram(errors, edges=np.linspace(0, 25, 51), x_label="source px", wh=(560, 190))
        if drawing:
            yield page.figure(drawing, "distance between prediction and label, where both are present")


def _reliability(content: Mapping[str, Any]) -> Iterator[str]:
    """The reliability diagram, as a drawing and in numbers."""
    found = content.get("reliability")
    if found is None:
        return
    bins = found["bins"]
    score, right = (np.array([of[key] for of in bins]) for key in ("score", "right"))
    drawing = page.line_plot(
        [page.Line("as it should be", score, score, page.COLOURS[1], broad=True), page.Line("rows", score, right)],
        x_label="score", y_label="share that is right",
    )  # fmt: skip
    if len(bins) > 1:
        yield page.figure(drawing, f"expected calibration error {found['error']:.3f}")
    yield page.table(
        ["score", "rows", "mean score", "right"],
        [[f"{of['low']:.1f} to {of['high']:.1f}", *(of[key] for key in ("rows", "score", "right"))] for of in bins],
    )


def _conditions(content: Mapping[str, Any]) -> str:
    """Counts under conditions that make tracking hard."""
    found: Mapping[str, Mapping[str, Any]] = content.get("conditions") or {}
    return page.table(["condition", "frames", *(name.upper() for name in _COUNTS), *_RATIOS], [
        [name, at["total"], *_count_line(name, at)[1:]] for name, at in found.items()
    ])  # fmt: skip


def _videos(content: Mapping[str, Any], ordered: list[dict[str, Any]], names: Mapping[str, str]) -> str:
    lines = []
    for video in ordered:
        at = video["at"][content["headline"]]
        wrong = [at[key] for key in ("fp1", "fp2", "fn")]
        ratios = [page.percent(at[key]) for key in _RATIOS]
        lines.append(
            [names[video["video"]], video["frames"], video["missing"], *wrong, *ratios, video["error_px"]["p50"]]
        )
    return page.table(["video", "frames", "missing", "FP1", "FP2", "FN", *_RATIOS, "median px"], lines)


def _worst(frames: pa.Table, names: Mapping[str, str]) -> str:
    """Positions in the wrong place by distance, then what is not there by score, then what was not found."""
    order = {"fp1": 0, "fp2": 1, "fn": 2}
    wrong = frames.filter(pc.is_in(frames["outcome"], pa.array(list(order)))).to_pylist()
    wrong.sort(key=lambda row: (order[row["outcome"]], -(row["error_px"] or 0), -(row["score"] or 0)))
    share = {name: [row for row in wrong if row["outcome"] == name][: WORST // 3] for name in order}
    shown = [row for rows in share.values() for row in rows]
    lines = []
    for row in shown:
        places = [_place(row, "label_"), _place(row, ""), row["score"]]
        lines.append([names.get(row["video"]), row["frame"], row["outcome"].upper(), row["error_px"], *places])
    return page.table(["video", "frame", "", "error px", "label", "prediction", "score"], lines)


def _place(row: Mapping[str, Any], prefix: str) -> str | None:
    x, y = row[f"{prefix}x"], row[f"{prefix}y"]
    return None if x is None else f"{x:.1f}, {y:.1f}"


def _drawings(frames: pa.Table, videos: list[dict[str, Any]], names: Mapping[str, str]) -> Iterator[str]:
    """Label and prediction of each video, with the mistakes marked."""
    for video in videos:
        mine = frames.filter(pc.equal(frames["video"], video["video"])).sort_by("frame")
        column = {
            name: mine[name].to_numpy(zero_copy_only=False).astype(float)
            for name in ("frame", "label_x", "label_y", "x", "y")
        }
        wrong = pc.is_in(mine["outcome"], pa.array(["fp1", "fp2"])).to_numpy(zero_copy_only=False)
        missed = pc.equal(mine["outcome"], "fn").to_numpy(zero_copy_only=False)
        label = np.stack([column["label_x"], column["label_y"]], axis=1)
        found = np.stack([column["x"], column["y"]], axis=1)
        size = (float(video.get("width_px") or np.nanmax(label)), float(video.get("height_px") or np.nanmax(label)))
        marks = {page.COLOURS[1]: found[wrong], page.COLOURS[4]: label[missed]}
        path = page.path_plot(label, size, marks=marks)
        told = "labels, early dark and late bright; red: wrong positions, yellow: not found"
        plots = []
        for axis in "xy":
            lines = [
                page.Line("label", column["frame"], column[f"label_{axis}"], page.COLOURS[0], broad=True),
                page.Line("prediction", column["frame"], column[axis], page.COLOURS[2]),
                page.Line("wrong", column["frame"], np.where(wrong, column[axis], np.nan), page.COLOURS[1], dots=True),
                page.Line("not found", column["frame"], np.where(missed, column[f"label_{axis}"], np.nan),
                          page.COLOURS[4], dots=True),
            ]  # fmt: skip
            plots.append(page.line_plot(lines, x_label="frame", y_label=f"{axis}, px", wh=(620, 120)))
        caption = "x and y by frame; the pale band is the label"
        yield page.subsection(names[video["video"]], page.figure(path, told), page.figure("".join(plots), caption))

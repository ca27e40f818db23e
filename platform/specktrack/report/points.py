"""The page about an evaluation of points: counts, errors, which videos and which frames are wrong, and how."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specktrack.metrics.points import PointCounts
from specktrack.report import drawing, page
from specktrack.report.stills import piece, stills
from specktrack.storage import Store

WORST = 45
"""Frames listed as the worst, of each kind a third."""
SHOWN = 18
"""Of them those that are shown, of each kind a third."""
THRESHOLDS = 50
"""Steps of the curves over the score."""
LABEL, WRONG, MISSED = drawing.COLOURS[0], drawing.COLOURS[1], drawing.COLOURS[4]
_COUNTS = ("tp", "tn", "fp1", "fp2", "fn")
_RATIOS = ("f1", "precision", "recall", "accuracy")
_MEANING = {
    "fp1": "found something else", "fp2": "found what is not there", "fn": "not found",
}  # fmt: skip


def evaluation_page(store: Store, content: Mapping[str, Any], *, drawn: int, pictures: bool = True) -> str:
    """The page of ``evaluation.json`` and, where it is there, ``frames.parquet``; the worst videos are drawn."""
    frames = pq.read_table(io.BytesIO(store.get("frames.parquet"))) if store.exists("frames.parquet") else None
    names = page.short_names([video["video"] for video in content["per_video"]])
    ordered = sorted(content["per_video"], key=lambda video: video["at"][content["headline"]]["accuracy"])
    return page.document(
        f"{content['model'] or content['predictions']} on {content['data'].rstrip('/').rpartition('/')[2]}",
        f"protocol {content['protocol']}, headline: {content['headline']}; labels {content['data']}; {store.uri}",
        *_doubts(content),
        page.cards(_headline(content)),
        page.section("Compared", *_comparison(content), note=_compared_note(content)),
        page.section("Counts", _counts(content), note="Each labelled frame counts once. " + _legend()),
        page.section(
            "Worst frames", *([] if frames is None else _worst(frames, names, pictures=pictures)),
            note=f"{_legend()} Blue ring: label; red: prediction.",
        ),
        page.section("Position errors", *_errors(content, frames)),
        page.section("Thresholds", *([] if frames is None else _thresholds(frames)),
                     note="Rows below the threshold count as absent. Rows that were never written stay absent."),
        page.section("Scores", *_reliability(content), note="Of the rows with score s, a share s should be right."),
        page.section("Conditions", _conditions(content), note="A frame may be in several."),
        page.section("Folders", _folders(content, names), note="Videos in one folder, which is often one domain."),
        page.section("Videos", _videos(content, ordered, names), note="Worst accuracy first."),
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
        drawn = drawing.histogram(errors, edges=np.linspace(0, 25, 51), x_label="source px", wh_px=(620, 220))
        yield page.figure(drawn, "distance between prediction and label, if both are present")
        known = np.sort(errors[~np.isnan(errors)])
        if len(known):
            share = 100 * np.arange(1, len(known) + 1) / len(known)
            line = drawing.Line("error", known, share)
            limit = (0.0, float(max(1.0, np.percentile(known, 99))))
            drawn = drawing.line_plot(
                [line], x_label="source px", y_label="% of positions", x_lim=limit, y_lim=(0, 100)
            )
            yield page.figure(drawn, "share of positions within a distance, up to the 99th percentile")


def _reliability(content: Mapping[str, Any]) -> Iterator[str]:
    """The reliability diagram, as a drawing and in numbers."""
    found = content.get("reliability")
    if found is None:
        return
    bins = found["bins"]
    score, right = (np.array([of[key] for of in bins]) for key in ("score", "right"))
    drawn = drawing.line_plot(
        [drawing.Line("as it should be", score, score, drawing.COLOURS[1], broad=True),
         drawing.Line("rows", score, right)],
        x_label="score", y_label="share that is right", wh_px=(420, 300),
    )  # fmt: skip
    if len(bins) > 1:
        yield page.figure(drawn, f"reliability diagram; expected calibration error {found['error']:.3f}")
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


def _worst(frames: pa.Table, names: Mapping[str, str], *, pictures: bool) -> Iterator[str]:
    """Positions in the wrong place by distance, what is not there by score, and some of what was not found."""
    order = {"fp1": 0, "fp2": 1, "fn": 2}
    wrong = frames.filter(pc.is_in(frames["outcome"], pa.array(list(order)))).to_pylist()
    wrong.sort(key=lambda row: (order[row["outcome"]], -(row["error_px"] or 0), -(row["score"] or 0)))
    kinds = {name: [row for row in wrong if row["outcome"] == name] for name in order}
    kinds["fn"] = kinds["fn"][:: max(1, len(kinds["fn"]) // (WORST // 3))]  # none is worse than another
    share = {name: rows[: WORST // 3] for name, rows in kinds.items()}
    shown = [row for rows in share.values() for row in rows]
    lines = []
    for row in shown:
        places = [_place(row, "label_"), _place(row, ""), row["score"]]
        lines.append([names.get(row["video"]), row["frame"], row["outcome"].upper(), row["error_px"], *places])
    if pictures:
        some = [row for rows in share.values() for row in rows[: SHOWN // 3]]
        yield page.strip(list(_pieces(some, names)))
    yield page.table(["video", "frame", "outcome", "error px", "label", "prediction", "score"], lines)


def _pieces(rows: list[dict[str, Any]], names: Mapping[str, str]) -> Iterator[str]:
    """Pictures of the mistakes."""
    wanted: dict[str, list[int]] = {}
    for row in rows:
        wanted.setdefault(row["video"], []).append(row["frame"])
    pictures = stills(wanted)
    for row in rows:
        if (row["video"], row["frame"]) not in pictures:
            continue
        places = [(np.array([row[f"{prefix}x"], row[f"{prefix}y"]], float), colour)
                  for prefix, colour in (("label_", LABEL), ("", WRONG)) if row[f"{prefix}x"] is not None]  # fmt: skip
        told = f"{row['outcome'].upper()}, {names.get(row['video'])}, frame {row['frame']}"
        pixels = piece(pictures[row["video"], row["frame"]], places[-1][0], places)
        yield page.picture(pixels, told, f"{_MEANING[row['outcome']]}: {told}")


def _thresholds(frames: pa.Table) -> Iterator[str]:
    """Effect of a higher threshold: curves over the threshold, and precision over recall."""
    score = frames["score"].to_numpy(zero_copy_only=False).astype(float)
    outcome = np.array(frames["outcome"].to_pylist(), object)
    found = np.isin(outcome, ("tp", "fp1", "fp2"))
    if not found.any() or np.isnan(score[found]).any():
        return
    limits = np.linspace(0, 1, THRESHOLDS + 1)
    below_as = {"tp": "fn", "fp1": "fn", "fp2": "tn"}
    lowered = np.array([below_as.get(word, word) for word in outcome], object)
    counts = [PointCounts.of(np.where(found & (score < limit), lowered, outcome).astype(str)) for limit in limits]
    ratios = {name: np.array([getattr(each, name) for each in counts]) for name in ("precision", "recall", "f1")}
    lines = [drawing.Line(name, limits, values, drawing.COLOURS[i]) for i, (name, values) in enumerate(ratios.items())]
    best = int(np.argmax(ratios["f1"]))
    told = f"the best F1 is {ratios['f1'][best]:.4f}, at {limits[best]:.2f}"
    yield page.figure(drawing.line_plot(lines, x_label="threshold", y_label="ratio", wh_px=(420, 300)), told)
    some = np.array([each.tp + each.fp1 + each.fp2 > 0 for each in counts])
    curve = drawing.Line("rows", ratios["recall"][some], ratios["precision"][some])
    drawn = drawing.line_plot(
        [curve], x_label="recall", y_label="precision", wh_px=(420, 300), x_lim=(0, 1.01), y_lim=(0, 1.01)
    )
    yield page.figure(drawn, "precision over recall")


def _comparison(content: Mapping[str, Any]) -> Iterator[str]:
    """Differences from another evaluation with their confidence intervals."""
    found = content.get("comparison")
    if not found:
        return
    lines = [
        [name, *(page.percent(at[key]) for key in ("now", "against", "difference", "low", "high")),
         "yes" if at["low"] > 0 or at["high"] < 0 else "no"]
        for name, at in found["ratios"].items()
    ]  # fmt: skip
    yield page.table(["ratio", "now", "against", "difference", "from", "to", "beyond chance"], lines)
    worse = found["per_video"][: WORST // 3]
    yield page.table(
        ["video", "frames", "accuracy now", "against", "difference"],
        [[each["video"].rpartition("/")[2], each["frames"], *(page.percent(each[key]) for key in
          ("now", "against", "difference"))] for each in worse],
    )  # fmt: skip


def _compared_note(content: Mapping[str, Any]) -> str:
    found = content.get("comparison")
    if not found:
        return ""
    return (
        f"Compared with {found['against']}, on {found['frames']} frames of {found['videos']} videos in both. "
        f"95 % intervals of paired differences, by {found['draws']} bootstrap draws of videos. Worst changes first."
    )


def _folders(content: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Counts by the folder that videos lie in, if there are several."""
    totals: dict[str, PointCounts] = {}
    for video in content["per_video"]:
        folder = names[video["video"]].rpartition("/")[0]
        mine = PointCounts(**{key: video["at"][content["headline"]][key] for key in _COUNTS})
        totals[folder] = totals.get(folder, PointCounts()) + mine
    if len(totals) < 2:
        return ""
    lines = [[name or ".", counts.total, *_count_line(name, counts.as_dict())[1:]] for name, counts in totals.items()]
    return page.table(["folder", "frames", *(name.upper() for name in _COUNTS), *_RATIOS], lines)


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
        marks = {"wrong": (found[wrong], WRONG), "not found": (label[missed], MISSED)}
        path = drawing.path_plot([label], size, marks=marks)
        told = "labels, early dark and late bright"
        plots = []
        for axis in "xy":
            lines = [
                drawing.Line("label", column["frame"], column[f"label_{axis}"], LABEL, broad=True),
                drawing.Line("prediction", column["frame"], column[axis], drawing.COLOURS[2]),
                drawing.Line("wrong", column["frame"], np.where(wrong, column[axis], np.nan), WRONG, dots=True),
                drawing.Line("not found", column["frame"], np.where(missed, column[f"label_{axis}"], np.nan), MISSED,
                             dots=True),
            ]  # fmt: skip
            plots.append(drawing.line_plot(lines, x_label="frame", y_label=f"{axis}, px", wh_px=(660, 190)))
        caption = "x and y by frame; the pale band is the label"
        yield page.subsection(names[video["video"]], page.figure(path, told), page.figure("".join(plots), caption))

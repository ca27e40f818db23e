"""A dataset's statistics, and labels in it that cannot be right."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from specktrack.datasets.dataset import Dataset, DatasetVideo
from specktrack.frames import Trajectory, Viewport
from specktrack.schema import Clip, Visibility
from specktrack.storage import open_store
from specktrack.video import probe, read_clip

NETWORK_WH_PX = (512, 288)
"""The size at which the literature's tolerance of 4 px is meant."""
PERCENTILES = (50, 90, 99, 100)
JUMP_SHARE = 0.12
"""Share of the picture's diagonal that no labelled ball moves from one frame to the next and back again."""
SAME_PLACE_FRAMES = 60
"""A label that stands still for longer than this was most likely forgotten."""
LAGS = np.arange(-3, 4)
EVIDENCE_FRAMES = 240
"""Frames of each video that are decoded to see whether labels lie where something moves."""


@dataclass(frozen=True)
class Finding:
    """One doubtful place in the labels."""

    video: str
    frame: int
    kind: str
    """jump, lonely, standstill, outside, corner or shifted."""
    detail: str


def dataset_stats(dataset: Dataset) -> dict[str, Any]:
    """Counts, visibility, speeds and gaps in all and per video, as plain JSON values."""
    tracks = [(video, dataset.track(video)) for video in dataset.card.videos]
    return {
        "name": dataset.card.name,
        "format": dataset.card.format,
        "label_sha256": dataset.card.label_sha256,
        "videos": len(tracks),
        **_summary(tracks),
        "per_video": [
            {
                "video": video.ref.uri,
                "width_px": video.width_px,
                "height_px": video.height_px,
                "fps": video.fps,
                "video_frames": video.frames,
                "labels_only": video.labels_only,
                **_summary([(video, track)]),
            }
            for video, track in tracks
        ],
    }


def _summary(tracks: Sequence[tuple[DatasetVideo, Trajectory]]) -> dict[str, Any]:
    words = np.concatenate([track.visibility for _, track in tracks]) if tracks else np.array([], object)
    steps = [_steps(track.xy_px, track.frame) for _, track in tracks]
    net = [
        _steps(Viewport((video.width_px, video.height_px), NETWORK_WH_PX).to_network(track.xy_px), track.frame)
        for video, track in tracks
    ]
    gaps = [_run_lengths(~track.present) for _, track in tracks]
    sizes = [track.wh_px[track.present].mean(axis=1) for _, track in tracks]
    return {
        "labelled_frames": len(words),
        "visibility": {word.value: int((words == word.value).sum()) for word in Visibility},
        "speed_px_per_frame": _percentiles(steps),
        f"speed_px_per_frame_at_{NETWORK_WH_PX[0]}x{NETWORK_WH_PX[1]}": _percentiles(net),
        "gap_frames": {"count": int(sum(len(gap) for gap in gaps)), **_percentiles(gaps)},
        "object_size_px": _percentiles(sizes),
    }


def _steps(xy: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Distance to the previous frame, NaN where it is not labelled or absent, [N]."""
    way = np.full(len(xy), np.nan)
    way[1:] = np.where(np.diff(frame) == 1, np.linalg.norm(np.diff(xy, axis=0), axis=1), np.nan)
    return way


def _run_lengths(flags: np.ndarray) -> np.ndarray:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return edges[1::2] - edges[::2]


def _percentiles(parts: Sequence[np.ndarray]) -> dict[str, float]:
    values = np.concatenate([np.zeros(0), *parts])
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    return {f"p{p}": round(float(v), 2) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def find_doubts(dataset: Dataset) -> list[Finding]:
    """Labels that cannot be right, by position and, where the video is there, by the picture."""
    findings = []
    for video in dataset.card.videos:
        track = dataset.track(video)
        findings += [Finding(video.ref.uri, *doubt) for doubt in _doubts(video, track)]
        if not video.labels_only and len(track) > 12 and (shifted := _shift(video, track)):
            findings.append(Finding(video.ref.uri, int(track.frame[0]), "shifted", shifted))
    return findings


def _doubts(video: DatasetVideo, track: Trajectory) -> list[tuple[int, str, str]]:
    """(frame, kind, detail) of what the positions alone give away."""
    doubts: list[tuple[int, str, str]] = []
    limit_px = JUMP_SHARE * float(np.hypot(video.width_px, video.height_px))
    step = _steps(track.xy_px, track.frame)
    back = np.full(len(step), np.nan)
    back[1:-1] = np.linalg.norm(track.xy_px[2:] - track.xy_px[:-2], axis=1)
    for i in np.flatnonzero((step > limit_px) & (np.append(step[1:], np.nan) > limit_px) & (back < limit_px)):
        doubts.append((int(track.frame[i]), "jump", f"{step[i]:.0f} px away for one frame and back"))
    present = track.present
    for middle in range(2, len(track) - 2):
        if present[middle] and not present[[middle - 2, middle - 1, middle + 1, middle + 2]].any():
            doubts.append((int(track.frame[middle]), "lonely", "present for one frame between absent ones"))
    same = np.nan_to_num(step, nan=1.0) == 0
    ends = np.flatnonzero(np.diff(np.append(same, [False]).astype(np.int8)) == -1)
    for end, length in zip(ends, _run_lengths(same), strict=True):
        if length >= SAME_PLACE_FRAMES:
            doubts.append((int(track.frame[end - length]), "standstill", f"the same place for {length + 1} frames"))
    half = np.array([video.width_px, video.height_px]) / 2
    outside = (np.abs(track.xy_px + 0.5 - half) > half).any(axis=1)
    doubts += [(int(track.frame[i]), "outside", _at(track, int(i))) for i in np.flatnonzero(outside)]
    corner = (np.abs(track.xy_px) < 0.5).all(axis=1)
    doubts += [
        (int(track.frame[i]), "corner", "present at (0, 0): absent in most formats") for i in np.flatnonzero(corner)
    ]
    return sorted(doubts)


def _at(track: Trajectory, i: int) -> str:
    return f"at ({track.xy_px[i, 0]:.1f}, {track.xy_px[i, 1]:.1f}) px"


def _shift(video: DatasetVideo, track: Trajectory) -> str | None:
    """A sentence if the labels fit the pictures clearly better some frames earlier or later.

    Evidence is how much the picture at a label differs from what is there two frames before and after; only fast
    frames count, because a slow ball fits at every lag.
    """
    viewport = Viewport.fit((video.width_px, video.height_px), NETWORK_WH_PX)
    start = int(track.frame[0])
    stop = min(start + EVIDENCE_FRAMES, int(track.frame[-1]) + 1, video.frames)
    with read_clip(Clip(video=video.ref, start=start, stop=stop), viewport=viewport) as reader:
        grey = np.concatenate([batch.pixels.mean(axis=-1, dtype=np.float32) for batch in reader])
    xy = np.full((len(grey), 2), np.nan)
    known = track.frame - start < len(grey)
    xy[(track.frame - start)[known]] = viewport.to_network(track.xy_px)[known]
    speed = _steps(xy, np.arange(len(xy)))
    fast = np.flatnonzero(speed > 3)
    fast = fast[(fast >= 5) & (fast < len(grey) - 5)]
    if len(fast) < 20:
        return None
    evidence = np.array([[_evidence(grey, int(i + lag), xy[i]) for lag in LAGS] for i in fast])
    # A moving ball leaves a trace at its neighbours' places too: only a clear win over lag 0 is a finding.
    wins = np.bincount(evidence.argmax(axis=1), minlength=len(LAGS))
    best = int(wins.argmax())
    if LAGS[best] == 0 or wins[best] < 2 * wins[LAGS == 0][0] + 5:
        return None
    own = wins[LAGS == 0][0]
    return f"{wins[best]} of {len(fast)} fast labels fit the picture {LAGS[best]:+d} frames away, {own} their own"


def _evidence(grey: np.ndarray, i: int, xy: np.ndarray) -> float:
    """Largest change in a 5x5 neighbourhood of ``xy`` against both the second frame before and after."""
    height, width = grey.shape[1:]
    x, y = int(np.clip(round(xy[0]), 2, width - 3)), int(np.clip(round(xy[1]), 2, height - 3))
    patch = grey[i - 2 : i + 3 : 2, y - 2 : y + 3, x - 2 : x + 3]
    return float(np.minimum(np.abs(patch[1] - patch[0]), np.abs(patch[1] - patch[2])).max())


def check_dataset(dataset: Dataset, out_dir: str | None = None, *, n: int = 12) -> dict[str, Any]:
    """Doubtful labels as plain JSON values; with ``out_dir`` also a picture per video of ``n`` labels on their frames.

    Doubtful labels are drawn first, the others evenly through the video.
    """
    findings = find_doubts(dataset)
    kinds = [finding.kind for finding in findings]
    sheets = []
    for video in dataset.card.videos:
        doubted = [finding.frame for finding in findings if finding.video == video.ref.uri]
        if out_dir is not None and not video.labels_only and (sheet := _sheet(video, dataset.track(video), doubted, n)):
            data = io.BytesIO()
            sheet.save(data, "PNG")
            store = open_store(out_dir)
            store.put(f"{video.ref.key}.png", data.getvalue())
            sheets.append(store.uri_of(f"{video.ref.key}.png"))
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    return {"counts": counts, "findings": [asdict(finding) for finding in findings], "sheets": sheets}


def _sheet(video: DatasetVideo, track: Trajectory, doubted: Sequence[int], n: int) -> Image.Image | None:
    """Enlarged surroundings of labels, each between two pairs of ticks that leave the object itself free to see."""
    present = np.flatnonzero(track.present)
    if not len(present):
        return None
    first = [i for i in present if track.frame[i] in set(doubted)]
    even = present[np.linspace(0, len(present) - 1, min(n, len(present))).astype(int)]
    chosen = sorted(dict.fromkeys([*first, *even]), key=[*first, *even].index)[:n]
    info = probe(video.ref)
    tile_px, columns = 200, min(4, len(chosen))
    sheet = Image.new("RGB", (columns * tile_px, -(-len(chosen) // columns) * tile_px))
    for place, i in enumerate(chosen):
        frame = int(track.frame[i])
        with read_clip(Clip(video=video.ref, start=frame, stop=frame + 1), info=info) as reader:
            picture = Image.fromarray(next(iter(reader)).pixels[0])
        half = max(12.0, video.width_px / 40)
        x, y = (float(v) + 0.5 for v in track.xy_px[i])  # Pillow counts from pixel edges
        box = (x - half, y - half, x + half, y + half)
        tile = picture.transform((tile_px, tile_px), Image.Transform.EXTENT, box, Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(tile)
        middle = tile_px / 2
        for sign in (-1, 1):
            draw.line((middle + sign * 40, middle, middle + sign * 60, middle), fill=(255, 0, 255))
            draw.line((middle, middle + sign * 40, middle, middle + sign * 60), fill=(255, 0, 255))
        draw.text((3, 2), f"{frame} {track.visibility[i]}{' ?' if frame in doubted else ''}", fill=(255, 255, 0))
        sheet.paste(tile, (place % columns * tile_px, place // columns * tile_px))
    return sheet

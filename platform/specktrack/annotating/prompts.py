"""Prompts of template models: one for one video, or a file with one for every video of an archive.

    --prompt 0,412,233.5,14,11                    frame,cx,cy,w,h in source px, for a single video
    --prompt prompts.csv                          video,frame,cx,cy,w,h: a header, then a line per video
    --prompt prompts.json                         [{"video": "match.mp4", "frame": 0, "cx": 412, ...}, ...]

A video is named by its URI, its path or its file name.
"""

import csv
import io
from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import from_json

from specktrack.annotating.config import PROMPT_FILES
from specktrack.datasets.row_files import store_of
from specktrack.errors import ConfigError
from specktrack.schema import Prompt, VideoRef
from specktrack.storage import to_uri

COLUMNS = ("video", "frame", "cx", "cy", "w", "h")
_EXAMPLE = "frame,cx,cy,w,h in source px, as in 0,412,233.5,14,11"


def prompts_of(given: str | None, videos: Sequence[VideoRef]) -> dict[str, Prompt]:
    """Prompts by the URI of their video; none where none are given.

    ConfigError for text that is no prompt, a file that cannot be read, and videos without a prompt.
    """
    if given is None:
        return {}
    if not given.lower().endswith(PROMPT_FILES):
        if len(videos) != 1:
            raise ConfigError(
                f"one prompt for {len(videos)} videos", given, remedy=f"give a CSV file with {','.join(COLUMNS)}"
            )
        return {videos[0].uri: parse_prompt(given)}
    named = _read(given)
    found = {video.uri: named[name] for video in videos for name in _names(video) if name in named}
    if without := [video.uri for video in videos if video.uri not in found]:
        raise ConfigError(
            f"{len(without)} of {len(videos)} videos have no prompt", without[0], given, "add a line for it"
        )
    return found


def parse_prompt(text: str) -> Prompt:
    """A prompt from ``frame,cx,cy,w,h``; ConfigError says what is wrong."""
    parts = text.split(",")
    if len(parts) != len(COLUMNS) - 1:
        raise ConfigError("not a prompt", text, remedy=f"write {_EXAMPLE}, or name a .csv or .json file")
    return _prompt(dict(zip(COLUMNS[1:], parts, strict=True)), f"prompt {text!r}")


def _prompt(values: Mapping[str, object], place: str) -> Prompt:
    missing = [name for name in COLUMNS[1:] if values.get(name) in (None, "")]
    if missing:
        raise ConfigError("a prompt lacks values", missing, place, f"write {_EXAMPLE}")
    cx, cy, w, h = (values[name] for name in COLUMNS[2:])
    try:
        return Prompt.model_validate(
            {"frame": values["frame"], "box": {"cx_px": cx, "cy_px": cy, "w_px": w, "h_px": h}}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1]).removesuffix("_px")
        raise ConfigError(
            f"not a prompt, {name}: {first['msg'].lower()}", first["input"], place, f"write {_EXAMPLE}"
        ) from None


def _read(place: str) -> dict[str, Prompt]:
    """Prompts of a file by the names of their videos."""
    store, key = store_of(to_uri(place))
    try:
        text = store.get(key).decode("utf-8-sig")
        if place.lower().endswith(".json"):
            lines = from_json(text)
        else:
            lines = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"not a file of prompts: {error}", place=place, remedy=f"columns: {','.join(COLUMNS)}"
        ) from None
    if not isinstance(lines, list) or not all(isinstance(line, dict) and line.get("video") for line in lines):
        raise ConfigError("not a file of prompts", place=place, remedy=f"columns: {','.join(COLUMNS)}")
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(lines, start=1):
        name = str(line["video"])
        if name in prompts:
            raise ConfigError("two prompts for one video", name, f"{place}, entry {number}", "keep one of them")
        prompts[name] = _prompt(line, f"{place}, entry {number}")
    return prompts


def _names(video: VideoRef) -> tuple[str, ...]:
    """By what a person may name a video: its file name, its path, its URI."""
    path = video.uri.removeprefix("file://").rstrip("/")
    return (path.rpartition("/")[2], path, video.uri)

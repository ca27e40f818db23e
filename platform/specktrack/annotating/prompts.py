"""Prompts: one for each object of a video, on the command line or in a file for a whole archive.

    --prompt 0,412,233.5,14,11                    frame,cx,cy,w,h in source px, for a single video
    --prompt 0,412,233.5,14,11 --prompt 0,90,80,9,9                   two objects, numbered 0 and 1
    --prompt 40,412,233.5,14,11,0 --prompt 200,300,120,14,11,0        two prompts of object 0, which are joined
    --prompt prompts.csv                          video,frame,cx,cy,w,h[,object]: a header, then a line per prompt
    --prompt prompts.json                         [{"video": "match.mp4", "frame": 0, "cx": 412, ...}, ...]

A video is named by its URI, path or file name. Prompts without a number are separate objects.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import from_json

from specktrack.annotating.config import PROMPT_FILES
from specktrack.datasets.row_files import store_of
from specktrack.errors import ConfigError
from specktrack.schema import Prompt, VideoRef
from specktrack.storage import to_uri
from specktrack.tracking.prompts import numbered, prompts_by_object

COLUMNS = ("video", "frame", "cx", "cy", "w", "h")
_EXAMPLE = "frame,cx,cy,w,h in source px, as in 0,412,233.5,14,11"


def prompts_of(given: Sequence[str], videos: Sequence[VideoRef]) -> dict[str, tuple[Prompt, ...]]:
    """Prompts by the URI of their video; none where none are given.

    ConfigError for text that is no prompt, a file that cannot be read, and videos without a prompt.
    """
    if not given:
        return {}
    found: dict[str, list[tuple[Prompt, bool]]] = defaultdict(list)
    for text in given:
        if text.lower().endswith(PROMPT_FILES):
            named = _read(text)
            for video in videos:
                name = next((name for name in _names(video) if name in named), None)
                found[video.uri] += named[name] if name else []
        elif len(videos) != 1:
            remedy = f"give a CSV file with {','.join(COLUMNS)}"
            raise ConfigError(f"one prompt for {len(videos)} videos", text, remedy=remedy)
        else:
            found[videos[0].uri].append(parse_prompt(text))
    if without := [video.uri for video in videos if not found[video.uri]]:
        what = f"{len(without)} of {len(videos)} videos have no prompt"
        raise ConfigError(what, without[0], ", ".join(given), "add a line for it")
    told = {uri: numbered(mine) for uri, mine in found.items()}
    for uri, mine in told.items():
        prompts_by_object(mine, uri)  # refuses two of one object in one frame
    return told


def parse_prompt(text: str) -> tuple[Prompt, bool]:
    """A prompt from ``frame,cx,cy,w,h[,object]``, and whether it names its object; ConfigError says what is wrong."""
    parts = text.split(",")
    names = (*COLUMNS[1:], "object")
    if len(parts) not in (len(names) - 1, len(names)):
        raise ConfigError("not a prompt", text, remedy=f"write {_EXAMPLE}, or name a .csv or .json file")
    return _prompt(dict(zip(names, parts, strict=False)), f"prompt {text!r}")


def _prompt(values: Mapping[str, object], place: str) -> tuple[Prompt, bool]:
    missing = [name for name in COLUMNS[1:] if values.get(name) in (None, "")]
    if missing:
        raise ConfigError("missing values in a prompt", missing, place, f"write {_EXAMPLE}")
    cx, cy, w, h = (values[name] for name in COLUMNS[2:])
    number = values.get("object")
    named = number not in (None, "")
    try:
        prompt = Prompt.model_validate(
            {
                "frame": values["frame"],
                "box": {"cx_px": cx, "cy_px": cy, "w_px": w, "h_px": h},
                "object": number if named else 0,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1]).removesuffix("_px")
        raise ConfigError(
            f"not a prompt, {name}: {first['msg'].lower()}", first["input"], place, f"write {_EXAMPLE}"
        ) from None
    return prompt, named


def _read(place: str) -> dict[str, list[tuple[Prompt, bool]]]:
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
    prompts: dict[str, list[tuple[Prompt, bool]]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        prompts[str(line["video"])].append(_prompt(line, f"{place}, entry {number}"))
    return prompts


def _names(video: VideoRef) -> tuple[str, ...]:
    """By what a person may name a video: its file name, its path, its URI."""
    path = video.uri.removeprefix("file://").rstrip("/")
    return (path.rpartition("/")[2], path, video.uri)

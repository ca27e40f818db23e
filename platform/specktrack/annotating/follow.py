"""``specktrack.follow``: rows of the objects in the given boxes, one at a time, while the video is read."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from specktrack.annotating.clips import annotate_clip
from specktrack.annotating.prompts import parse_prompt
from specktrack.frames import Trajectory
from specktrack.models.checkpoint import Model
from specktrack.schema import Clip, Prompt
from specktrack.storage import expand_sources
from specktrack.tracking.both_ways import goes_back
from specktrack.tracking.prompts import check_prompt, numbered
from specktrack.tracking.tracker import tracker_of
from specktrack.tracking.windowed.interleaved import at_rate
from specktrack.video.process import DecoderProcess

OneBox = Prompt | str | Sequence[float]
"""A prompt, or ``frame,cx,cy,w,h[,object]`` as text or numbers."""
Boxes = OneBox | Sequence[OneBox]


def follow(
    video: str | Path,
    boxes: Boxes,
    *,
    model: str | Path | Model = "speckdimp",
    device: str | None = None,
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """Rows of the objects in ``boxes``, as mappings of the row columns, in frame order.

    Each box is a ``Prompt``, or frame, cx, cy, w, h in source px, and the object's number if it has several boxes;
    boxes without a number are separate objects. A box in a later frame is also followed backwards; rows are then
    returned when that is done, otherwise as soon as they are final. ``settings`` are the other fields of ``Following``:
    finder and so on.

    Raises ConfigError for a box that is not in the video, MediaError if the video cannot be read to its end.
    """
    (ref,) = expand_sources([str(video)])
    prompts = numbered([_prompt(box) for box in _each(boxes)])
    tracker = tracker_of(model, device=device, prompted=True, **settings)
    with DecoderProcess() as decoder:
        info = decoder.probe(ref)
        for prompt in prompts:
            check_prompt(prompt, info.frames, info.size_wh_px, ref.uri)
        clip = Clip(video=ref, start=0, stop=info.frames, prompts=prompts)
        if goes_back(prompts, 0):
            result = annotate_clip(tracker, clip, info, decoder)
            if result.error is not None:
                raise result.error
            yield from _rows(result.trajectory, ref.uri)
            return
        tracker = at_rate(tracker, info.fps)
        session = tracker.open(prompts)
        with closing(decoder.read_clip(clip, info=info, viewport=tracker.viewport(info.size_wh_px))) as reader:
            for batch in reader:
                yield from _rows(session.push(batch), ref.uri)
        yield from _rows(session.finish(), ref.uri)


def _each(boxes: Boxes) -> list[OneBox]:
    """A single box is a list of one: a prompt, a text, or a sequence that begins with a number."""
    if isinstance(boxes, Prompt | str) or (len(boxes) and isinstance(boxes[0], int | float)):
        return [cast(OneBox, boxes)]
    return list(cast(Sequence[OneBox], boxes))


def _prompt(box: Prompt | str | Sequence[float]) -> tuple[Prompt, bool]:
    if isinstance(box, Prompt):
        return box, "object" in box.model_fields_set
    return parse_prompt(box if isinstance(box, str) else ",".join(map(str, box)))


def _rows(rows: Trajectory, uri: str) -> list[dict[str, Any]]:
    table = rows.to_rows(uri).sort_by([("frame", "ascending"), ("object", "ascending")])
    return list(table.to_pylist())

"""Which prompts belong together: one object may have several, and a session several objects."""

from collections.abc import Sequence
from itertools import count

from specktrack.errors import ConfigError
from specktrack.schema import Box, Prompt

LEAST_SIDE_PX = 0.1
"""Of a prompt's box: no object is seen that is smaller."""


def prompts_by_object(prompt: Prompt | Sequence[Prompt] | None, who: str) -> dict[int, list[Prompt]]:
    """Prompts by the number of their object, each object's in the order of frames.

    ConfigError if there is none for ``who``, or two of one object in one frame.
    """
    given = [prompt] if isinstance(prompt, Prompt) else list(prompt or ())
    if not given:
        what = "this model needs a prompt"
        raise ConfigError(what, who, remedy="give a frame and a box: --prompt frame,cx,cy,w,h")
    found: dict[int, list[Prompt]] = {}
    for each in sorted(given, key=lambda each: (each.object, each.frame)):
        mine = found.setdefault(each.object, [])
        if mine and mine[-1].frame == each.frame:
            what = f"two prompts of object {each.object} in one frame"
            raise ConfigError(what, each.frame, remedy="give the objects different numbers: frame,cx,cy,w,h,object")
        mine.append(each)
    return found


def numbered(prompts: Sequence[tuple[Prompt, bool]]) -> tuple[Prompt, ...]:
    """Prompts, each with whether it names its object; those that do not are objects of their own, in order."""
    taken = {prompt.object for prompt, named in prompts if named}
    free = (number for number in count() if number not in taken)
    return tuple(prompt if named else prompt.model_copy(update={"object": next(free)}) for prompt, named in prompts)


def check_prompt(prompt: Prompt, frames: int, wh_px: tuple[int, int], video: str) -> None:
    """ConfigError for a prompt past the end of a video of ``frames`` frames of ``wh_px``, or outside the picture."""
    if prompt.frame >= frames:
        what = f"the prompt's frame is not among the video's {frames}, of {wh_px[0]}x{wh_px[1]} px"
        raise ConfigError(what, prompt.frame, video)
    check_box(prompt.box, wh_px, prompt.frame)


def check_box(box: Box, frame_wh_px: tuple[int, int], frame: int) -> None:
    """ConfigError for a prompt's box that lies outside its frame, is larger than it, or has no size to speak of."""
    said = (box.cx_px, box.cy_px, box.w_px, box.h_px)
    place = f"frame {frame} of {frame_wh_px[0]}x{frame_wh_px[1]} px"
    remedy = "give cx,cy,w,h in source px"
    if box.w_px > frame_wh_px[0] or box.h_px > frame_wh_px[1]:
        raise ConfigError("the prompt's box is larger than the frame", said, place, remedy)
    if min(box.w_px, box.h_px) < LEAST_SIDE_PX:
        raise ConfigError(f"the prompt's box has a side below {LEAST_SIDE_PX} px", said, place, remedy)
    places = zip((box.cx_px, box.cy_px), (box.w_px, box.h_px), frame_wh_px, strict=True)
    if any(centre + side / 2 <= 0 or centre - side / 2 >= frame - 1 for centre, side, frame in places):
        raise ConfigError("the prompt's box lies outside the frame", said, place, remedy)

"""Sessions: one object followed through one clip. A tracker is a model made ready on a device; it opens sessions."""

from collections.abc import Callable
from typing import Protocol

import torch

from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.detector import Detector
from specktrack.schema import Prompt
from specktrack.tracking.repair import Repair, RepairedTracker
from specktrack.tracking.template.redetecting import RedetectingTracker
from specktrack.tracking.template.search import Redetector, Searcher, Searching, SearchTracker
from specktrack.tracking.template.session import TemplateTracker
from specktrack.tracking.windowed.session import WindowedTracker, Windowing


class Session(Protocol):
    """Live state of following one object; rows do not depend on how the frames were cut into batches."""

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take the next frames; return the rows that are now final."""
        ...

    def finish(self) -> Trajectory:
        """Return the remaining rows; the session takes no more frames."""
        ...


class Tracker(Protocol):
    """Opens any number of sessions of one model, one after the other or side by side."""

    @property
    def config(self) -> Config:
        """What decides its rows beside the model; it enters the identity of an output."""
        ...

    @property
    def stride(self) -> int:
        """Clips start and stop at multiples of it."""
        ...

    @property
    def lead(self) -> int | None:
        """Frames before and after a clip that its rows depend on; None: on all since the prompt, so the video stays one
        clip."""
        ...

    @property
    def step_s(self) -> float | None:
        """Seconds between the frames that it wants to see together; None: those that the video has. See ``at_rate``."""
        ...

    @property
    def wants_background(self) -> bool:
        """Whether its sessions see better with ``FrameBatch.background``."""
        ...

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """The viewport in which this tracker sees a video of ``source_wh_px``."""
        ...

    def open(self, prompt: Prompt | None = None) -> Session:
        """A new session; ConfigError if the model needs a prompt and there is none, or takes none and there is one."""
        ...


def make_tracker(
    model: Model,
    *,
    device: str | None = None,
    windowing: Windowing | None = None,
    repair: Repair | None = None,
    finder: Model | None = None,
    best_point: bool = False,
    through: Callable[[Detector], Detector] | None = None,
) -> Tracker:
    """The tracker of the model's family, on ``device`` or else on CUDA where there is one.

    ``windowing`` is how a windowed network's heatmaps become rows: size, overlap, decoding and choice. ``repair`` fills
    gaps of the rows. ``finder`` is a search network that finds a template network's lost target again. With
    ``best_point`` the rows of search and template networks say the highest score's place where they would say that the
    target is lost. ``through`` puts something between the sessions of a windowed network and
    its detector: a server's queue, in which windows of many sessions share a forward pass.

    ConfigError for networks that follow nothing by themselves, such as those that repair trajectories.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tracker: Tracker
    if model.config.family == "windowed":
        tracker = WindowedTracker(model, device=place, config=windowing, through=through)
    elif windowing not in (None, Windowing()):
        raise ConfigError("input_wh, overlap, ensemble and decoding are of heatmap networks", model.card.name)
    elif model.config.family == "template":
        local = TemplateTracker(model, device=place, best_point=best_point)
        tracker = local if finder is None else RedetectingTracker(local, Redetector(Searcher(finder, device=place)))
    elif model.config.family == "search":
        tracker = SearchTracker(model, device=place, searching=Searching(threshold=0.0) if best_point else None)
    else:
        raise ConfigError(f"a {model.config.family} network follows nothing by itself", model.card.name)
    if finder is not None and model.config.family != "template":
        raise ConfigError("only a template network loses its target and can be helped", model.card.name)
    return tracker if repair is None else RepairedTracker(tracker, repair)


def open_session(
    model: Model, *, prompt: Prompt | None = None, device: str | None = None, windowing: Windowing | None = None
) -> Session:
    """A session of ``model``; for many clips make one tracker and open its sessions.

    Frames come as FrameBatch at the size of the tracker's viewport, which ``video.read_clip`` delivers. ConfigError for
    a prompt where the model takes none (windowed networks know what they follow from their training), or none where it
    needs one (template networks follow what the prompt's box shows).
    """
    return make_tracker(model, device=device, windowing=windowing).open(prompt)

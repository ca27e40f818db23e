"""Sessions: objects followed through one clip. A tracker is a model loaded on a device; it opens sessions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Model, load_model
from specktrack.models.heatmap.detector import Detector
from specktrack.models.heatmap.engines.choosing import engines_for
from specktrack.schema import Prompt
from specktrack.tracking.candidates import Candidates
from specktrack.tracking.follower import Choosing, FollowerTracker
from specktrack.tracking.following import Following
from specktrack.tracking.kinds import KindClassifier, KindTracker
from specktrack.tracking.repair import Repair, RepairedTracker, make_repair
from specktrack.tracking.template.search import SearchCandidates, Searcher, Searching, SearchTracker
from specktrack.tracking.template.session import TemplateTracker
from specktrack.tracking.windowed.session import WindowedTracker, Windowing


class Session(Protocol):
    """Live state of following one or several objects; rows do not depend on how the frames were split into batches."""

    def push(self, batch: FrameBatch) -> Trajectory:
        """Push the next frames; return the rows that are now final."""
        ...

    def finish(self) -> Trajectory:
        """Return the remaining rows; the session takes no more frames."""
        ...

    def provisional(self) -> Trajectory:
        """The current rows of frames that are not final yet, without changing the session."""
        ...


class Tracker(Protocol):
    """Opens any number of sessions of one model, one after another or in parallel."""

    @property
    def config(self) -> Config:
        """Settings that change its rows, besides the model; part of an output's identity."""
        ...

    @property
    def stride(self) -> int:
        """Clips start and stop at multiples of it."""
        ...

    @property
    def lead(self) -> int | None:
        """Frames before and after a clip that its rows depend on. None: all frames since the prompt, so the video stays
        one clip."""
        ...

    @property
    def step_s(self) -> float | None:
        """Seconds between the frames of a window; None: those of the video. See ``at_rate``."""
        ...

    @property
    def wants_background(self) -> bool:
        """Whether its sessions use ``FrameBatch.background``."""
        ...

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """The viewport of this tracker for a video of ``source_wh_px``."""
        ...

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> Session:
        """A new session; ConfigError if the model needs a prompt and gets none, or the reverse."""
        ...


@dataclass(frozen=True)
class Parts:
    """The loaded models of a ``Following``: a driver loads them once and passes them to its actors."""

    model: Model
    repair: Repair | None = None
    finder: Model | None = None
    kinds: Model | None = None


def load_parts(following: Following, *, model: Model | None = None) -> Parts:
    """Load the networks that ``following`` names; ``model`` is its model if already loaded.

    Raises CheckpointError if one is missing or damaged, ConfigError if one cannot do what is asked of it.
    """
    loaded = model or load_model(following.model)
    following.check(loaded.config.family, loaded.card.name)
    finder = load_model(following.finder) if following.finder else None
    if finder is not None and finder.config.family not in ("windowed", "search"):
        what = f"a {finder.config.family} network cannot find an object on its own"
        raise ConfigError(
            what, finder.card.name, remedy="give a heatmap network, such as specknet, or a search network"
        )
    kinds = load_model(following.kinds) if following.kinds else None
    return Parts(loaded, make_repair(following.repair, gap=following.repair_gap), finder, kinds)


def make_tracker(
    following: Following,
    *,
    device: str | None = None,
    parts: Parts | None = None,
    prompted: bool = False,
    best_point: bool = False,
    settle: bool = False,
    through: Callable[[Detector], Detector] | None = None,
) -> Tracker:
    """The tracker of ``following``, on ``device`` or else on CUDA if there is one.

    ``parts`` are what it names, where they are loaded already. A heatmap network takes prompts if it is ``prompted``:
    its sessions then need one, and a video stays one clip. With ``best_point`` the rows of search and template
    networks say the highest score's place where they would say that the target is lost. With ``settle`` there is so
    much to do that ``engine=auto`` may take a minute to measure which is fastest here, if nobody did yet. ``through``
    puts something between the sessions of a windowed network and its detector: a server's queue, in which windows of
    many sessions share a forward pass.

    ConfigError for settings that the model cannot use, and for networks that follow nothing by themselves.
    """
    loaded = parts or load_parts(following)
    model, family = loaded.model, loaded.model.config.family
    following.check(family, model.card.name)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tracker: Tracker
    match family:
        case "windowed":
            engines = engines_for(model, device=place, engine=following.engine, settle=settle)
            windowing = Windowing.of(following)
            tracker = WindowedTracker(model, device=place, config=windowing, through=through, engines=engines)
            if prompted:
                choosing = Choosing(wait=windowing.choice.ahead)
                tracker = FollowerTracker(choosing, heatmap=tracker, settings=[windowing], best_point=best_point)
        case "template":
            tracker = TemplateTracker(model, device=place, best_point=best_point)
            if loaded.finder is not None or tracker.config.follows_flight:
                tracker = _follower(tracker, loaded.finder, place, best_point=best_point)
        case "search":
            tracker = SearchTracker(model, device=place, searching=Searching(threshold=0.0) if best_point else None)
        case _:
            raise ConfigError(f"a {family} network cannot follow an object on its own", model.card.name)
    if loaded.kinds is not None:
        tracker = KindTracker(tracker, KindClassifier(loaded.kinds, place))
    return tracker if loaded.repair is None else RepairedTracker(tracker, loaded.repair)


def _follower(head: TemplateTracker, finder: Model | None, device: torch.device, *, best_point: bool) -> Tracker:
    """Follows by a template's head and, if there is one, the positions of a finder."""
    if finder is None:
        return FollowerTracker(
            Choosing(), looking=lambda: [head.candidates()], settings=[head.config], best_point=best_point
        )
    if finder.config.family == "search":
        searcher = Searcher(finder, device=device)

        def looking() -> list[Candidates]:
            return [SearchCandidates(searcher), head.candidates()]

        return FollowerTracker(Choosing(), looking=looking, settings=[head.config, Searching()], best_point=best_point)
    heatmap = WindowedTracker(finder, device=device, engines=engines_for(finder, device=device))
    return FollowerTracker(
        Choosing(wait=heatmap.config.choice.ahead),
        heatmap=heatmap,
        looking=lambda: [head.candidates()],
        settings=[head.config, heatmap.config],
        best_point=best_point,
    )


def tracker_of(
    model: str | Path | Model, *, device: str | None = None, prompted: bool = False, **settings: Any
) -> Tracker:
    """The tracker of a model, given by name, by path or loaded; ``settings`` are the other fields of ``Following``."""
    loaded = model if isinstance(model, Model) else load_model(model)
    following = Following.of(loaded.card.name if isinstance(model, Model) else str(model), settings)
    return make_tracker(following, device=device, parts=load_parts(following, model=loaded), prompted=prompted)


def open_session(
    model: str | Path | Model,
    *,
    prompt: Prompt | Sequence[Prompt] | None = None,
    device: str | None = None,
    **settings: Any,
) -> Session:
    """A session of ``model``; for many clips, make one tracker and open its sessions.

    ``settings`` are the other fields of ``Following``: overlap, repair and so on. Pass frames as FrameBatch at the size
    of the tracker's viewport, as returned by ``video.read_clip``. A prompt says what to follow: template and search
    networks need one (else ConfigError); for heatmap networks it chooses between several objects. Several prompts are
    several objects, by their numbers.
    """
    return tracker_of(model, device=device, prompted=bool(prompt), **settings).open(prompt)

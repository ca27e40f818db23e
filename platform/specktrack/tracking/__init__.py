"""Sessions: one object followed through one clip."""

from typing import Protocol

import torch

from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Model
from specktrack.models.inference import Detector
from specktrack.schema import Prompt
from specktrack.tracking.windowed import WindowedConfig, WindowedSession, reach


class Session(Protocol):
    """Live state of following one object; rows do not depend on how the frames were cut into batches."""

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take the next frames; return the rows that are now final."""
        ...

    def finish(self) -> Trajectory:
        """Return the remaining rows; the session takes no more frames."""
        ...


class Tracker:
    """A model made ready on a device; opens any number of sessions, one after the other or side by side."""

    def __init__(self, model: Model, *, device: str | None = None, config: WindowedConfig | None = None) -> None:
        self.model, self.config = model, config or WindowedConfig()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._detector = Detector(model.network, device=self.device, candidates=self.config.candidates)

    @property
    def stride(self) -> int:
        """Clips start and stop at multiples of it, so that windows fall alike in cut and uncut video."""
        return self.config.stride_of(self.model.config)

    @property
    def lead(self) -> int:
        """Frames before and after a clip that its rows depend on."""
        return reach(self.model.config, self.config)

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """The viewport in which this tracker sees a video of ``source_wh_px``."""
        return Viewport.fit(source_wh_px, self.model.config.input_wh)

    def open(self) -> Session:
        """A new session; the first frames pushed say what their viewport is."""
        return WindowedSession(self._detector, self.config)


def open_session(model: Model, *, prompt: Prompt | None = None, device: str | None = None) -> Session:
    """A session of ``model``; for many clips make one Tracker and open its sessions.

    Frames come as FrameBatch at the size of ``Tracker.viewport``, which ``video.read_clip`` delivers. ConfigError for a
    prompt, which windowed networks do not take: they know what they follow from their training.
    """
    if prompt is not None:
        raise ConfigError("this model follows without a prompt", model.card.name, remedy="leave the prompt away")
    return Tracker(model, device=device).open()

"""A tracker around another one, whose rows it completes."""

from typing import TYPE_CHECKING

from specktrack.frames import Viewport

if TYPE_CHECKING:
    from specktrack.tracking.tracker import Tracker


class TrackerWrapper:
    """Base class: everything but the sessions is that of the wrapped tracker.

    ``reach`` is how many frames around a row are needed to complete it; None if all of them are.
    """

    def __init__(self, tracker: "Tracker", reach: int | None) -> None:
        self._tracker, self._reach = tracker, reach

    @property
    def stride(self) -> int:
        """That of the tracker."""
        return self._tracker.stride

    @property
    def lead(self) -> int | None:
        """The tracker's lead and the reach together, in whole strides; None if either needs all frames."""
        if self._tracker.lead is None or self._reach is None:
            return None
        return -(-(self._tracker.lead + self._reach) // self.stride) * self.stride

    @property
    def step_s(self) -> float | None:
        """That of the tracker."""
        return self._tracker.step_s

    @property
    def wants_background(self) -> bool:
        """Whether the tracker does."""
        return self._tracker.wants_background

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """That of the tracker."""
        return self._tracker.viewport(source_wh_px)

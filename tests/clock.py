"""A clock that a test turns."""


class Clock:
    """Stands in a module for ``time``: nothing but the test, and what the module sleeps, moves it on."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def time(self) -> float:
        """Seconds; also what ``monotonic`` and ``perf_counter`` say."""
        return self.now_s

    monotonic = perf_counter = time

    def sleep(self, seconds: float) -> None:
        """Take no time."""
        self.now_s += seconds

"""Streams and sessions that live on one replica: found by id, closed when nobody sends frames any more."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from specktrack.annotating.live import LiveSession
from specktrack.serving.config import Limits
from specktrack.serving.problems import Refusal
from specktrack.serving.routing import home_of
from specktrack.tracking.tracker import Session, Tracker
from specktrack.video.process import DecodeLimits, DecoderProcess


class HeldSession(LiveSession):
    """A session that a replica keeps for its caller."""

    def __init__(
        self, session: Session, tracker: Tracker, decoder: DecoderProcess, limits: Limits, *, model: str, fps: float
    ) -> None:
        super().__init__(session, tracker, decoder, fps=fps, most_frames=limits.stream_frames)
        self.model = model
        self.calls = 0
        """At work on it or waiting for their turn."""
        self.turn = asyncio.Lock()
        self.opened_s = self.last_used_s = time.monotonic()


class Sessions:
    """The sessions of one replica by id; an id names its replica, so that requests find the way back."""

    def __init__(self, replica: str, decode_limits: DecodeLimits, limits: Limits) -> None:
        self._replica, self._decode_limits, self._limits = replica, decode_limits, limits
        self._live: dict[str, HeldSession] = {}

    def __len__(self) -> int:
        return len(self._live)

    @property
    def resting(self) -> int:
        """Sessions that nobody is working on just now."""
        return sum(not live.calls for live in self._live.values())

    def add(self, session: Session, tracker: Tracker, *, model: str, fps: float) -> str:
        """A new session's id; Refusal(503) where the replica has as many as it may."""
        for idle in self.idle():
            self.remove(idle)
        if len(self._live) >= self._limits.sessions:
            what = f"this server is limited to {self._limits.sessions} streams and sessions at a time"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, what, remedy="try again shortly")
        key = f"{self._replica}.{secrets.token_urlsafe(12)}"
        decoder = DecoderProcess(self._decode_limits)
        self._live[key] = HeldSession(session, tracker, decoder, self._limits, model=model, fps=fps)
        return key

    def get(self, key: str) -> HeldSession:
        """The session; Refusal(410) if its replica is gone, Refusal(404) if it was closed or never was."""
        if key in self._live:
            return self._live[key]
        if home_of(key) != self._replica:
            what = "the replica of this session is gone, and the session's state with it"
            raise Refusal(HTTPStatus.GONE, what, remedy="open a new session from the object's present position")
        raise Refusal(HTTPStatus.NOT_FOUND, "no such session", key, remedy="it was closed, or idle for too long")

    @asynccontextmanager
    async def using(self, key: str) -> AsyncIterator[HeldSession]:
        """The session, for one call at a time; as long as one works or waits it is not idle. Refusals as of ``get``."""
        live = self.get(key)
        live.calls += 1
        try:
            async with live.turn:
                self.get(key)  # the call before may have ended it
                yield live
        finally:
            live.calls -= 1
            live.last_used_s = time.monotonic()

    def remove(self, key: str) -> HeldSession | None:
        """Forget a session, if it is there, and end its decoder."""
        if (live := self._live.pop(key, None)) is not None:
            live.close()
        return live

    def idle(self) -> list[str]:
        """Ids of sessions that were idle for too long."""
        since_s = time.monotonic() - self._limits.session_idle_s
        return [key for key, live in self._live.items() if not live.calls and live.last_used_s < since_s]

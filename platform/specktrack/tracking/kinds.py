"""What a followed object is: its pictures, cut at source size where it was found, and the word for them in each row.

A row's kind is that of the newest frames of its track together: wing beat and turning show in time, and one blurred
frame does not make a bird of a drone. A track ends where the object jumps: what is found there is another one. Rows
wait for nothing that they would not wait for anyway, as no later frame is looked at.
"""

# N rows, S side of a picture (source px), D features, K kinds

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import SerializeAsAny

from specktrack.config import Config
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import Model
from specktrack.models.kinds.kindnet import KindNet
from specktrack.schema import Prompt
from specktrack.tracking.wrapper import TrackerWrapper

if TYPE_CHECKING:
    from specktrack.tracking.tracker import Session, Tracker

JUMP_SHARE = 0.5
"""Of a picture's side: what moves further from one frame to the next is not the same object."""
AT_ONCE = 8
"""Pictures in a forward pass, always: equal shapes give equal sums, however many rows come together."""


class KindsConfig(Config):
    """A tracker's settings, and the network that says what it follows."""

    tracking: SerializeAsAny[Config]
    kinds: str
    """Name of the weights."""
    weights_sha256: str


def cut(luma: np.ndarray, xy_px: np.ndarray, side: int) -> np.ndarray:
    """uint8 [S, S] of ``luma`` [H, W] around a position, resampled by nothing; its edge is continued outside."""
    x, y = np.floor(xy_px + 0.5).astype(int) - side // 2
    rows = np.clip(np.arange(y, y + side), 0, luma.shape[0] - 1)
    columns = np.clip(np.arange(x, x + side), 0, luma.shape[1] - 1)
    return luma[np.ix_(rows, columns)]


class KindTeller:
    """A network of kinds made ready on a device."""

    def __init__(self, model: Model, device: torch.device) -> None:
        if not isinstance(model.network, KindNet):
            what = f"a {model.config.family} network tells no kinds"
            raise ConfigError(what, model.card.name, remedy="give a network of kinds, such as kindnet")
        self.model, self.config = model, model.network.config
        self.side = self.config.input_wh[0]
        self._network, self._device = model.network.eval().to(device), device

    @torch.inference_mode()
    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Float [N, D] of pictures uint8 [S, S]."""
        found = []
        for start in range(0, len(pictures), AT_ONCE):
            some = np.zeros((AT_ONCE, self.side, self.side), np.uint8)
            part = pictures[start : start + AT_ONCE]
            some[: len(part)] = part
            found.append(self._network.features(torch.from_numpy(some).to(self._device)).cpu().numpy()[: len(part)])
        return np.concatenate(found)

    @torch.inference_mode()
    def told(self, features_ND: np.ndarray) -> tuple[str, float]:
        """The likeliest kind by the features of N pictures of one track, and how probable it is."""
        logits = self._network.decide(torch.from_numpy(features_ND)[None].to(self._device))[0].double()
        probability = torch.softmax(logits * self.model.card.calibration.slope, dim=0)
        best = int(probability.argmax())
        return self.config.kinds[best], float(probability[best])


@dataclass
class _Track:
    """The newest pictures of one object."""

    frames: int
    seen: deque[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=deque)
    """Frame, position in source px, and features of its picture."""

    def add(self, frame: int, xy_px: np.ndarray, features: np.ndarray, *, jump_px: float) -> np.ndarray:
        """Take a picture in; the features [N, D] of those that go with it."""
        if self.seen:
            before, place, _ = self.seen[-1]
            if np.linalg.norm(xy_px - place) > jump_px * (frame - before):
                self.seen.clear()
        self.seen.append((frame, xy_px, features))
        while self.seen[0][0] <= frame - self.frames:
            self.seen.popleft()
        return np.stack([each for *_, each in self.seen])


class KindTracker(TrackerWrapper):
    """A tracker whose rows say what the object is."""

    def __init__(self, tracker: "Tracker", teller: KindTeller) -> None:
        super().__init__(tracker, reach=teller.config.frames_in)
        self._teller = teller
        card = teller.model.card
        self.config = KindsConfig(tracking=tracker.config, kinds=card.name, weights_sha256=card.weights_sha256)

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """That of the tracker, with luma."""
        return replace(super().viewport(source_wh_px), luma=True)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "KindSession":
        """A new session of the tracker, whose rows say what the object is."""
        return KindSession(self._tracker.open(prompt), self._teller)


class KindSession:
    """Live state: luma of frames whose rows are not final, and the newest pictures of each object."""

    def __init__(self, session: "Session", teller: KindTeller) -> None:
        self._session, self._teller = session, teller
        self._luma: dict[int, np.ndarray] = {}
        self._tracks: dict[int, _Track] = {}

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take frames; return rows that no later frame can change. ConfigError for frames without luma."""
        if batch.luma is None:
            what = "kinds are told from luma at source size"
            raise ConfigError(what, place=repr(batch), remedy="read frames at the viewport that the tracker gives")
        self._luma.update(zip(batch.frame.tolist(), batch.luma, strict=True))
        return self._final(self._session.push(batch))

    def finish(self) -> Trajectory:
        """Return the remaining rows."""
        return self._final(self._session.finish())

    def provisional(self) -> Trajectory:
        """The rows that wait, with their kinds as they would be if they were final."""
        return self._told(self._session.provisional(), copy.deepcopy(self._tracks))

    def _final(self, rows: Trajectory) -> Trajectory:
        told = self._told(rows, self._tracks)
        for frame in rows.frame.tolist():
            self._luma.pop(frame, None)
        return told

    def _told(self, rows: Trajectory, tracks: dict[int, _Track]) -> Trajectory:
        """``rows`` with their kinds; ``tracks`` take their pictures in."""
        seen = np.flatnonzero(rows.present & (rows.gap == 0))
        if not len(seen):
            return rows
        kind, kind_score = rows.kind.copy(), rows.kind_score.copy()
        teller = self._teller
        pictures = [cut(self._luma[int(rows.frame[i])], rows.xy_px[i], teller.side) for i in seen]
        for i, features in zip(seen.tolist(), teller.features(pictures), strict=True):
            track = tracks.setdefault(int(rows.object[i]), _Track(teller.config.frames_in))
            newest = track.add(int(rows.frame[i]), rows.xy_px[i], features, jump_px=JUMP_SHARE * teller.side)
            kind[i], kind_score[i] = teller.told(newest)
        return replace(rows, kind=kind, kind_score=kind_score)

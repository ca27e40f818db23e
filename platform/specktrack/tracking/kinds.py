"""Classifies followed objects: crops at source size around the found positions become a kind for each row.

A row's kind is predicted from the latest frames of its track together: wing beats and turns show over time, and a
single blurred frame does not turn a drone into a bird. A track ends where the position jumps. No later frame is used,
so rows are not delayed.
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
    """Settings of a tracker and its kind classifier."""

    tracking: SerializeAsAny[Config]
    kinds: str
    """Name of the weights."""
    weights_sha256: str


def cut(luma: np.ndarray, xy_px: np.ndarray, side: int) -> np.ndarray:
    """uint8 [S, S]: the crop of ``luma`` [H, W] around a position, not resampled; edge pixels repeat outside."""
    x, y = np.floor(xy_px + 0.5).astype(int) - side // 2
    rows = np.clip(np.arange(y, y + side), 0, luma.shape[0] - 1)
    columns = np.clip(np.arange(x, x + side), 0, luma.shape[1] - 1)
    return luma[np.ix_(rows, columns)]


class KindClassifier:
    """A kind network on a device."""

    def __init__(self, model: Model, device: torch.device) -> None:
        if not isinstance(model.network, KindNet):
            what = f"a {model.config.family} network does not classify objects"
            raise ConfigError(what, model.card.name, remedy="give a kind network, such as kindnet")
        self.model, self.config = model, model.network.config
        self.side = self.config.input_wh[0]
        self._network, self._device = model.network.eval().to(device), device

    @torch.inference_mode()
    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Float [N, D]: features of N crops, uint8 [S, S]."""
        found = []
        for start in range(0, len(pictures), AT_ONCE):
            some = np.zeros((AT_ONCE, self.side, self.side), np.uint8)
            part = pictures[start : start + AT_ONCE]
            some[: len(part)] = part
            found.append(self._network.features(torch.from_numpy(some).to(self._device)).cpu().numpy()[: len(part)])
        return np.concatenate(found)

    @torch.inference_mode()
    def classify(self, features_ND: np.ndarray) -> tuple[str, float]:
        """The most probable kind, and its probability, from the features [N, D] of N crops of one track."""
        logits = self._network.decide(torch.from_numpy(features_ND)[None].to(self._device))[0].double()
        probability = torch.softmax(logits * self.model.card.calibration.slope, dim=0)
        best = int(probability.argmax())
        return self.config.kinds[best], float(probability[best])


@dataclass
class _Track:
    """The latest crops of one object."""

    frames: int
    seen: deque[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=deque)
    """Frame, position in source px, and features of its picture."""

    def add(self, frame: int, xy_px: np.ndarray, features: np.ndarray, *, jump_px: float) -> np.ndarray:
        """Add a crop; returns the features [N, D] of all crops that it is classified with."""
        if self.seen:
            before, place, _ = self.seen[-1]
            if np.linalg.norm(xy_px - place) > jump_px * (frame - before):
                self.seen.clear()
        self.seen.append((frame, xy_px, features))
        while self.seen[0][0] <= frame - self.frames:
            self.seen.popleft()
        return np.stack([each for *_, each in self.seen])


class KindTracker(TrackerWrapper):
    """A tracker whose rows have a kind."""

    def __init__(self, tracker: "Tracker", classifier: KindClassifier) -> None:
        super().__init__(tracker, reach=classifier.config.frames_in)
        self._classifier = classifier
        card = classifier.model.card
        self.config = KindsConfig(tracking=tracker.config, kinds=card.name, weights_sha256=card.weights_sha256)

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        """That of the tracker, with luma."""
        return replace(super().viewport(source_wh_px), luma=True)

    def open(self, prompt: Prompt | Sequence[Prompt] | None = None) -> "KindSession":
        """A new session of the tracker, whose rows have a kind."""
        return KindSession(self._tracker.open(prompt), self._classifier)


class KindSession:
    """Live state: luma of the frames whose rows are not final, and the latest crops of each object."""

    def __init__(self, session: "Session", classifier: KindClassifier) -> None:
        self._session, self._classifier = session, classifier
        self._luma: dict[int, np.ndarray] = {}
        self._tracks: dict[int, _Track] = {}

    def push(self, batch: FrameBatch) -> Trajectory:
        """Take frames; return rows that no later frame can change. ConfigError for frames without luma."""
        if batch.luma is None:
            what = "a kind network needs luma at source size"
            raise ConfigError(what, place=repr(batch), remedy="read frames at the viewport that the tracker gives")
        self._luma.update(zip(batch.frame.tolist(), batch.luma, strict=True))
        return self._final(self._session.push(batch))

    def finish(self) -> Trajectory:
        """Return the remaining rows."""
        return self._final(self._session.finish())

    def provisional(self) -> Trajectory:
        """The rows that are not final yet, with the kinds they would have now."""
        return self._with_kinds(self._session.provisional(), copy.deepcopy(self._tracks))

    def _final(self, rows: Trajectory) -> Trajectory:
        told = self._with_kinds(rows, self._tracks)
        for frame in rows.frame.tolist():
            self._luma.pop(frame, None)
        return told

    def _with_kinds(self, rows: Trajectory, tracks: dict[int, _Track]) -> Trajectory:
        """``rows`` with kinds; adds their crops to ``tracks``."""
        seen = np.flatnonzero(rows.present & (rows.gap == 0))
        if not len(seen):
            return rows
        kind, kind_score = rows.kind.copy(), rows.kind_score.copy()
        classifier = self._classifier
        pictures = [cut(self._luma[int(rows.frame[i])], rows.xy_px[i], classifier.side) for i in seen]
        for i, features in zip(seen.tolist(), classifier.features(pictures), strict=True):
            track = tracks.setdefault(int(rows.object[i]), _Track(classifier.config.frames_in))
            newest = track.add(int(rows.frame[i]), rows.xy_px[i], features, jump_px=JUMP_SHARE * classifier.side)
            kind[i], kind_score[i] = classifier.classify(newest)
        return replace(rows, kind=kind, kind_score=kind_score)

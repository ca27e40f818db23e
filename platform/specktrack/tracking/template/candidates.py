"""Proposals of a template's head: peaks of its score maps, near the trajectory and where other sources point."""

from dataclasses import replace

import numpy as np
import torch

from specktrack.models.template.dimp import Dimp
from specktrack.schema import Box
from specktrack.tracking.candidates import MOST_EVIDENCE, Expected, Picture, Places
from specktrack.tracking.template.head import Look, TemplateHead
from specktrack.tracking.template.localise import Peak, State

PEAKS = 3
"""Of one region."""
MOST_HINTS = 2
"""Places of others that are looked at while the target is lost, each in a region of its own."""
NOISE = 0.08
"""Of score maps: what is lower says nothing. How high peaks are differs from target to target by more than how far its
own stands out from the others, so that counts twice."""
WIDTHS = (1.0, 1.5, 2.0, 3.0)
"""Of search regions, in those that the network was taught."""


class HeadCandidates:
    """A target's head, moved along its flight."""

    def __init__(self, network: Dimp, *, device: torch.device) -> None:
        self._network, self._device, self._online = network, device, network.config.online
        self._head: TemplateHead | None = None
        self._since = 0
        self._seen: list[tuple[np.ndarray, Peak, Look]] = []  # of the last picture: place, peak and where it was seen

    def begin(self, picture: Picture, box: Box) -> float:
        """See Candidates."""
        self._head, self._since = TemplateHead(self._network, box, device=self._device), picture.frame
        self._head.begin(picture.frame, picture.pixels)
        return 1.0

    def propose(self, picture: Picture, expected: Expected, hints_px: np.ndarray) -> Places:
        """See Candidates."""
        head = self._head
        assert head is not None
        looks = [head.look(picture.pixels, _pair(expected.xy_px), wider=self._wider(expected))]
        if expected.unseen:
            far = [xy for xy in hints_px if not _holds(looks[0], xy)]
            looks += [head.look(picture.pixels, _pair(xy)) for xy in far[:MOST_HINTS]]
        self._seen = []
        for look in looks:
            for peak in head.peaks(look, PEAKS):
                box = head.place(peak, look.region, picture.pixels)
                self._seen.append((np.array([box.cx_px, box.cy_px]), peak, look))
        xy_px = np.array([xy for xy, _, _ in self._seen])
        score = np.clip([peak.score for _, peak, _ in self._seen], 0, 1)
        looked_at = np.array([_rectangle(look) for look in looks])
        places = Places.scored(xy_px, score, threshold=self._online.lost_below, looked_at=looked_at)
        distinct = 2 * np.log(np.maximum(score, NOISE) / np.maximum(_best_other(score), NOISE))
        evidence = np.clip(places.evidence / 2 + distinct, -MOST_EVIDENCE, MOST_EVIDENCE)
        return replace(places, evidence=evidence)

    def confirm(self, picture: Picture, xy_px: np.ndarray) -> tuple[float, float] | None:
        """See Candidates: the box is refined, and the look remembered, where the head saw the target itself."""
        head = self._head
        assert head is not None
        box, reach_px = head.box, 0.5 * float(np.sqrt(head.box.w_px * head.box.h_px))
        near = [seen for seen in self._seen if np.linalg.norm(seen[0] - xy_px) <= reach_px]
        if not near or near[0][1].score < NOISE:
            head.box = box.model_copy(update={"cx_px": float(xy_px[0]), "cy_px": float(xy_px[1])})
            if (look := next((at for _, _, at in self._seen if _holds(at, xy_px)), None)) and self._is_plain(look):
                head.learn(look, State.NORMAL, 0)  # others know better: this is what it looks like now
            return None
        _, peak, look = near[0]
        head.settle(peak, look, picture.frame, picture.pixels)
        if self._is_plain(look):
            head.learn(look, self._state(peak, look), picture.frame - self._since)
        return head.box.w_px, head.box.h_px

    def _is_plain(self, look: Look) -> bool:
        """Whether a look has the size that is remembered."""
        return look.region.side_net == self._network.config.input_wh[0]

    def _state(self, peak: Peak, look: Look) -> State:
        """What to learn from an observation: nothing if another peak competes, a distractor if one is weaker."""
        rival = max((p.score for _, p, at in self._seen if at is look and p is not peak), default=0.0)
        if rival > self._online.competing_above * peak.score:
            return State.UNCERTAIN
        weak = max(self._online.lost_below, self._online.distracting_above * peak.score)
        return State.DISTRACTOR if rival > weak else State.NORMAL

    def _wider(self, expected: Expected) -> float:
        """The smallest of WIDTHS in which three sigma and the target have room, or the largest."""
        room = 2 * (3 * expected.sigma_px + expected.size_px) / (self._network.config.search_area * expected.size_px)
        return next((width for width in WIDTHS if width >= room), WIDTHS[-1])


def _best_other(score: np.ndarray) -> np.ndarray:
    """[K]: of scores [K] the highest but each itself."""
    others = np.where(np.eye(len(score), dtype=bool), 0.0, score)
    return np.asarray(others.max(axis=1))


def _pair(xy_px: np.ndarray) -> tuple[float, float]:
    return float(xy_px[0]), float(xy_px[1])


def _rectangle(look: Look) -> tuple[int, int, int, int]:
    """Where a look reached; its rim, where a target is half cut off, does not count."""
    region = look.region
    rim = region.side_px // 8
    x1, y1 = region.x0_px + region.side_px - rim, region.y0_px + region.side_px - rim
    return region.x0_px + rim, region.y0_px + rim, x1, y1


def _holds(look: Look, xy_px: np.ndarray) -> bool:
    x0, y0, x1, y1 = _rectangle(look)
    return bool(x0 <= xy_px[0] <= x1 and y0 <= xy_px[1] <= y1)

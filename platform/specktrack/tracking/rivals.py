"""Things that look like the object and are not it: they were seen while the object was seen elsewhere."""

# K places, R rivals

from dataclasses import replace

import numpy as np

from specktrack.tracking.candidates import Places

KNOWN_AFTER = 3
"""Frames in which a thing was seen beside the object before it is known."""
DOUBT = 4.0
"""Evidence that a place loses where a known rival is."""
FORGOTTEN_AFTER = 3
"""Frames without it."""


class Rivals:
    """Live state: where rivals were last seen, and in how many frames."""

    def __init__(self, step_px: float) -> None:
        self._step_px = step_px
        self._xy_px, self._times, self._unseen = np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int)

    def less(self, places: Places) -> Places:
        """The places, those less likely at which a known rival is."""
        known = self._xy_px[self._times >= KNOWN_AFTER]
        if not len(known) or not len(places.xy_px):
            return places
        distance = np.linalg.norm(places.xy_px[:, None] - known, axis=2)
        taken = np.zeros(len(places.xy_px), bool)
        nearest = distance.argmin(axis=0)
        taken[nearest[distance.min(axis=0) <= self._step_px]] = True
        return replace(places, evidence=places.evidence - DOUBT * taken)

    def see(self, places: Places, chosen: int | None) -> None:
        """A frame's places, of which one is the object: others that could be taken for it are rivals."""
        could = places.evidence > 0
        if chosen is not None:
            could[chosen] = False
        others = places.xy_px[could]
        self._unseen += 1
        new = np.ones(len(others), bool)
        for r in range(len(self._xy_px)):
            distance = np.where(new, np.linalg.norm(others - self._xy_px[r], axis=1), np.inf)
            if len(distance) and distance.min() <= self._step_px:
                k = int(distance.argmin())
                new[k] = False
                self._xy_px[r], self._unseen[r] = others[k], 0
                self._times[r] += chosen is not None
        if chosen is not None:
            self._xy_px = np.concatenate([self._xy_px, others[new]])
            self._times = np.concatenate([self._times, np.ones(new.sum(), int)])
            self._unseen = np.concatenate([self._unseen, np.zeros(new.sum(), int)])
        kept = self._unseen <= np.where(self._times >= KNOWN_AFTER, FORGOTTEN_AFTER, 1)
        self._xy_px, self._times, self._unseen = self._xy_px[kept], self._times[kept], self._unseen[kept]

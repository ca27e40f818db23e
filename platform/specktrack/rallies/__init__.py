"""Events of the ball: hits, bounces, net crossings and rallies, and its speed, from rows alone.

turns.py      where a flight turns: hits, serves and bounces, by a small network
rallying.py   which turns make a rally, and when the ball is dead
smoothing.py  positions with their uncertainty, in px
court.py      a camera from the corners of a court
flights.py    flights fitted in metres; metres.py joins them with a track
analysis.py   all of it, as the tables EVENTS and FLIGHTS

The room is not called events, since ``specktrack.events`` is the function.
"""

from specktrack.rallies.analysis import Found, analyse, events
from specktrack.rallies.court import COURTS, Court, CourtView

__all__ = ["COURTS", "Court", "CourtView", "Found", "analyse", "events"]

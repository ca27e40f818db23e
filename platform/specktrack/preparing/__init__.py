"""Training data cut up for object storage: clips at network size, packed with their index, read a few frames at a time.

config    what is prepared, and how
job       the run: plan -> pack -> backgrounds -> index, on Ray Data or in this process
frames    what a decoder gives, in one array, and what is missing of it
packer    the actors
packs     the bytes of one clip
prepared  what training reads; blocks: byte ranges of packs, kept in a folder of bounded size
"""

from typing import TYPE_CHECKING

from specktrack.lazy import names
from specktrack.preparing.config import PrepareConfig, PrepareReport

if TYPE_CHECKING:
    from specktrack.preparing.job import prepare

__all__ = ["PrepareConfig", "PrepareReport", "prepare"]

__getattr__ = names(__name__, prepare="specktrack.preparing.job")
"""The function without loading what it needs before it is used."""

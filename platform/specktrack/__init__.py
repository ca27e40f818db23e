"""specktrack follows tiny, fast objects through video, on Ray."""

__version__ = "0.1.0"

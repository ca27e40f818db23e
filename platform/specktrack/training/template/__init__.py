"""Template trackers."""

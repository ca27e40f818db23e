"""Following by a windowed network: overlapping windows, candidates per frame, a choice, rows."""

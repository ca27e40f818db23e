"""Networks that repair trajectories."""

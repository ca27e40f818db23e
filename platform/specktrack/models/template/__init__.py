"""Networks that learn a filter for the target from its first box, and refine boxes."""

"""Networks that tell what an object is."""

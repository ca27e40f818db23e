"""Networks that tell what a followed object is, from pictures of it."""

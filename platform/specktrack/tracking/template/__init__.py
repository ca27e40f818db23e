"""Following what a prompt's box shows: around the last box, or in whole frames."""

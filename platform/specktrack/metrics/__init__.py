"""How right rows are: points, boxes, and the published rules for counting."""

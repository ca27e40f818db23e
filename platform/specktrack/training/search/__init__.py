"""Networks that search whole frames for the target of a template."""

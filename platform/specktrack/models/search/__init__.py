"""Networks that find a template's target anywhere in a whole frame."""

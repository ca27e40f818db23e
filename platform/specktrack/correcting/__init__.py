"""The labelling loop: which rows a person should check, and what that person changed."""

"""The labelling loop: which parts of rows a person should look at, and what that person changed."""

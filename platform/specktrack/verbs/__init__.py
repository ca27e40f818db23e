"""Verbs that are just a configuration and a function: datasets, the zoo, rows, this machine. The others have
packages."""

"""The command line: a table of verbs, their options from the fields of their configurations, and what they print."""

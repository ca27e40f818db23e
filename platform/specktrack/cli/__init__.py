"""The command line: a table of verbs, options from the fields of their configurations, and printed reports."""

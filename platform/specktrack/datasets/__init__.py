"""Labelled video on disk: importers, exporters and the rendered truth."""

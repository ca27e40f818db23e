"""Adapters of rows and labelled video to other libraries: only the adapter of a library imports it.

in_torch.py        labelled windows as a ``torch.utils.data.Dataset``
in_supervision.py  rows as ``supervision.Detections`` and back (extra ``supervision``)
in_mlflow.py       runs and models in MLflow, and models from there (extra ``mlflow``)
"""

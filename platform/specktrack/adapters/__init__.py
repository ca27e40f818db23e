"""Rows and labelled video in the types of other libraries: each module imports its library, and nothing else does.

in_torch.py        labelled windows as a ``torch.utils.data.Dataset``
in_supervision.py  rows as ``supervision.Detections`` and back (extra ``supervision``)
in_mlflow.py       runs and models in MLflow, and models from there (extra ``mlflow``)
"""

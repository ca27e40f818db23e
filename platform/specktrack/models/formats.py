"""The files that ``models export`` writes and engines load, without loading torch."""

from typing import Literal

Format = Literal["onnx", "torch-export", "openvino", "openvino-int8"]

SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2", "openvino": ".xml", "openvino-int8": ".xml"}
"""OpenVINO writes the weights beside it, as .bin."""

NEEDS: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch-export": (),
    "openvino": ("openvino",),
    "openvino-int8": ("openvino", "nncf"),
}
"""Packages of the extra ``export`` that a format is written and checked with."""

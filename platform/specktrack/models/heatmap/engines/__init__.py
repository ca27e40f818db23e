"""Engines: what runs a heatmap network. Each is one runtime at one precision; torch runs everything else.

    name            runtime             precision   what it is for
    eager           torch               fp32        the reference, everywhere
    eager-bf16      torch               bf16        processors with AMX or AVX-512 bf16, and GPUs
    compiled        torch.compile       the faster  no other package; every process compiles for a minute
    openvino        OpenVINO            fp32        CPUs
    openvino-bf16   OpenVINO            bf16        CPUs with AMX or AVX-512 bf16
    openvino-int8   OpenVINO            int8        twice as fast again; other rows, so only where it is asked for
    onnx            ONNX Runtime        fp32        CPUs without OpenVINO
    cuda-graphs     torch               bf16        GPUs: a pass is one launch

OpenVINO and ONNX Runtime load what ``models export`` writes. ``auto`` takes what was fastest when it was measured on
this machine (``choosing.py``).
"""

from importlib.util import find_spec
from typing import Literal, NamedTuple, get_args

EngineName = Literal[
    "eager", "eager-bf16", "compiled", "openvino", "openvino-bf16", "openvino-int8", "onnx", "cuda-graphs"
]  # fmt: skip
EngineChoice = Literal[
    "auto", "eager", "eager-bf16", "compiled", "openvino", "openvino-bf16", "openvino-int8", "onnx", "cuda-graphs"
]  # fmt: skip


class Kind(NamedTuple):
    """An engine's requirements, and whether ``auto`` may choose it."""

    make: str
    """``module:function``; takes the model, the size of its pictures and the device."""
    devices: tuple[str, ...] = ("cpu",)
    needs: tuple[str, ...] = ()
    """Packages."""
    extra: str = ""
    """The extra that brings them."""
    bf16: bool = False
    automatic: bool = True


_HERE = "specktrack.models.heatmap.engines"
ENGINES: dict[EngineName, Kind] = {
    "eager": Kind(f"{_HERE}.in_torch:eager", ("cpu", "cuda")),
    "eager-bf16": Kind(f"{_HERE}.in_torch:eager_bf16", ("cpu", "cuda"), bf16=True),
    "compiled": Kind(f"{_HERE}.in_torch:Compiled", ("cpu", "cuda"), automatic=False),
    "openvino": Kind(f"{_HERE}.in_openvino:fp32", needs=("openvino",), extra="fast"),
    "openvino-bf16": Kind(f"{_HERE}.in_openvino:bf16", needs=("openvino",), extra="fast", bf16=True),
    "openvino-int8": Kind(f"{_HERE}.in_openvino:int8", needs=("openvino", "nncf"), extra="export", automatic=False),
    "onnx": Kind(f"{_HERE}.in_onnx:OnnxRuntime", needs=("onnx", "onnxscript", "onnxruntime"), extra="export"),
    "cuda-graphs": Kind(f"{_HERE}.in_torch:CudaGraphs", ("cuda",), bf16=True),
}
assert set(ENGINES) == set(get_args(EngineName)) == set(get_args(EngineChoice)) - {"auto"}


def missing(name: EngineName) -> list[str]:
    """Packages that the engine needs and that are not installed."""
    return [package for package in ENGINES[name].needs if find_spec(package) is None]

"""Engines of OpenVINO: the fastest on CPUs. bf16 is computed where the processor has it, the last layers in fp32."""

# B batch, T frames in window, H W network px

from threading import local
from typing import Any

import openvino
import torch
from openvino.preprocess import PrePostProcessor

from specktrack.models.checkpoint import Model
from specktrack.models.formats import Format
from specktrack.models.heatmap.engines.artefacts import exported


class OpenVino:
    """One exported network, compiled for each size of batch."""

    def __init__(self, model: Model, wh_px: tuple[int, int], *, name: str, kind: Format, precision: str) -> None:
        self.name, self._path, self._precision = name, exported(model, wh_px, kind), precision
        self._of_thread = local()  # a request computes one thing at a time, and threads of one tracker do not wait

    def __call__(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """See Engine."""
        shape = tuple(windows_BTHWC.shape)
        requests: dict[tuple[int, ...], Any] = vars(self._of_thread).setdefault("requests", {})
        if shape not in requests:
            requests[shape] = self._compiled(shape)
        requests[shape].infer([windows_BTHWC.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(requests[shape].get_output_tensor().data.copy())  # the next pass writes into it

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        network = openvino.Core().read_model(self._path)
        steps = PrePostProcessor(network)
        pictures = steps.input()
        pictures.tensor().set_element_type(openvino.Type.u8).set_shape(list(shape))
        pictures.preprocess().convert_layout([0, 1, 4, 2, 3]).convert_element_type(openvino.Type.f32).scale(255.0)
        settings = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",  # or two processes of one thread each share the first core
        }
        return openvino.Core().compile_model(steps.build(), "CPU", settings).create_infer_request()


def fp32(model: Model, wh_px: tuple[int, int], device: torch.device) -> OpenVino:
    """Rows equal to the reference's to 0.001 px."""
    return OpenVino(model, wh_px, name="openvino", kind="openvino", precision="f32")


def bf16(model: Model, wh_px: tuple[int, int], device: torch.device) -> OpenVino:
    """The same file in half the bits."""
    return OpenVino(model, wh_px, name="openvino-bf16", kind="openvino", precision="bf16")


def int8(model: Model, wh_px: tuple[int, int], device: torch.device) -> OpenVino:
    """A file of its own: its scales were measured on rendered windows."""
    return OpenVino(model, wh_px, name="openvino-int8", kind="openvino-int8", precision="f32")

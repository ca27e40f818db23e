"""The engine of ONNX Runtime: fp32 on CPUs, where OpenVINO is not."""

# B batch, T frames in window, H W network px

import onnxruntime
import torch

from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.engines.artefacts import exported


class OnnxRuntime:
    """One exported network."""

    name = "onnx"

    def __init__(self, model: Model, wh_px: tuple[int, int], device: torch.device) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        path = exported(model, wh_px, "onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """See Engine."""
        frames = windows_BTHWC.permute(0, 1, 4, 2, 3).float().div_(255).contiguous()
        return torch.from_numpy(self._session.run(["heatmaps"], {"frames": frames.numpy()})[0])

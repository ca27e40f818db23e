"""A trained network as a file that other runtimes load, and how far that file is from it.

The file takes ``frames`` float32 [B, T, 3, H, W], RGB in [0, 1] at the network's size, and gives ``heatmaps`` float32
[B, frames_out, H', W'] in [0, 1]; B is free. ``openvino-int8`` computes in int8, with scales measured on rendered
windows. A repairing network takes ``positions`` [B, T, 2] in shares of the picture and ``fill`` [B, T] and gives
``repaired`` [B, T, 2]. The model card goes with it as metadata.
"""

# B batch, T frames in window, C channel, H W network px

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from specktrack import heatmap
from specktrack.config import Config
from specktrack.datasets.synthetic import SynthConfig, render_clip
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models.checkpoint import Model
from specktrack.models.formats import NEEDS, SUFFIX, Format
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.inference import fold_batch_norm

LARGEST_DIFFERENCE = 1e-3
"""Between values in [0, 1] in fp32; an exported file that differs by more is wrong and is not kept."""

MOST_MOVED = 0.1
"""Share of positions that int8 may move by more than one network px, or lose."""

CALIBRATION_CLIPS, CALIBRATION_WINDOWS = 6, 8
"""Rendered clips, and windows of each, on which int8 measures its scales."""

CARD = "specktrack.card"

Inputs = tuple[torch.Tensor, ...]

Run = Callable[[Inputs], torch.Tensor]
"""Runs an exported file on inputs."""


class Parity(Config):
    """How far an exported file is from the network it came from, both in fp32 on the CPU."""

    largest_difference: float
    """Over all output values, which lie in [0, 1]."""
    differing: float
    """Share of values that differ by more than 1e-3."""
    largest_distance_px: float
    """Between decoded positions, network px, where the network found an object or repaired a position."""
    positions: int
    """How many of those were compared."""
    moved: float
    """Share of the positions found in fp32 that lie more than one network px away, or are not found."""


def export_model(
    model: Model, destination: str | Path, kind: Format, *, input_wh: tuple[int, int] | None = None
) -> tuple[list[Path], Parity]:
    """Write ``model`` as a file of ``kind``; the files written and how far they are from it.

    ``input_wh`` is the size of its pictures, if not the network's own.

    Raises ConfigError for a wrong suffix, a missing package or a family that has no export; CheckpointError if what was
    written gives other results.
    """
    path = Path(destination)
    if path.suffix != SUFFIX[kind]:
        raise ConfigError(f"the file name of an export to {kind} must end in {SUFFIX[kind]}", str(destination))
    if missing := [name for name in NEEDS[kind] if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"{kind} needs packages that are not installed", missing, remedy="pip install 'specktrack[export]'"
        )
    task = _task(model, input_wh or model.config.input_wh)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        written, run = _WRITERS[kind](task, path, model.card.model_dump_json())
        parity = _parity(task, run)
    if parity.moved > MOST_MOVED if kind == "openvino-int8" else not parity.differing <= task.ties:
        for file in written:
            file.unlink()
        raise CheckpointError(
            "the exported network gives other results", f"largest difference {parity.largest_difference:.3g}", str(path)
        )
    return written, parity


@dataclass(frozen=True)
class _Task:
    """The parts of an export: a module, inputs to trace and check it with, names, and its output as positions."""

    module: nn.Module
    example: Inputs
    inputs: tuple[str, ...]
    output: str
    positions: Callable[[torch.Tensor], torch.Tensor]
    """From an output to positions [M, 2] in network px, NaN if there is none."""
    ties: float = 0.0
    """Share of values that may differ: where the output is the likeliest of many levels, ties fall either way."""
    rendered: Callable[[], Iterator[Inputs]] | None = None
    """Inputs of the kind that the network knows, to measure the scales of int8 on."""

    def program(self) -> torch.export.ExportedProgram:
        """The module's operations, traced."""
        return torch.export.export(self.module, self.example, dynamic_shapes=self.free_batch())

    def free_batch(self) -> tuple[dict[int, Any], ...]:
        """The batch is free, all else as in the example."""
        batch = torch.export.Dim("batch", min=1, max=1024)
        return ({0: batch},) * len(self.example)


class _Heatmaps(nn.Module):
    """A heatmap network with its last step, batch norm folded."""

    def __init__(self, network: HeatmapNetwork) -> None:
        super().__init__()
        self.network = fold_batch_norm(network)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.network.probabilities(self.network(frames))


def _task(model: Model, input_wh: tuple[int, int]) -> _Task:
    config, network = model.config, model.network
    if isinstance(network, HeatmapNetwork) and isinstance(config, WindowedConfig):
        stride = config.target.stride

        def peaks(heatmaps: torch.Tensor) -> torch.Tensor:
            xy, score = heatmap.decode(heatmaps, stride=stride)
            return torch.where(score > 0.5, xy[..., 0, :], torch.nan).flatten(0, -2)

        def rendered() -> Iterator[Inputs]:
            for clip in range(1, 1 + CALIBRATION_CLIPS):
                for window in _pictures(config, input_wh, clip=clip, windows=CALIBRATION_WINDOWS):
                    yield (window[None],)

        ties = 1e-4 if config.target.kind == "levels" else 0.0
        pictures = _pictures(config, input_wh, clip=0, windows=2)
        return _Task(_Heatmaps(network).eval(), (pictures,), ("frames",), "heatmaps", peaks, ties, rendered)
    if config.family == "repair":
        size = torch.tensor(config.input_wh)
        path = torch.rand(2, config.frames_in, 2, generator=torch.Generator().manual_seed(0))
        fill = torch.zeros(2, config.frames_in)
        fill[:, 5:9] = 1
        example = (path * (1 - fill[..., None]), fill)
        return _Task(network.eval(), example, ("positions", "fill"), "repaired", lambda xy: (xy * size).flatten(0, 1))
    raise ConfigError(f"cannot export networks of family {config.family!r}", model.card.name)


def _pictures(config: WindowedConfig, wh: tuple[int, int], *, clip: int, windows: int) -> torch.Tensor:
    """Rendered windows [N, pictures_in, 3, H, W], after the background where the network wants one."""
    width, height = wh
    video = SynthConfig(videos=clip + 1, frames=windows * config.frames_in + 6, width_px=width, height_px=height)
    frames = np.stack([frame.pixels for frame in render_clip(video, clip)])[6:]
    windows_NTHWC = frames.reshape(windows, config.frames_in, height, width, 3)
    if config.pictures_in > config.frames_in:
        background = np.median(frames, axis=0).astype(np.uint8)
        still = np.broadcast_to(background, (windows, 1, *background.shape))
        windows_NTHWC = np.concatenate([still, windows_NTHWC], axis=1)
    return torch.from_numpy(windows_NTHWC.copy()).permute(0, 1, 4, 2, 3).float() / 255


def _write_torch(task: _Task, path: Path, card: str) -> tuple[list[Path], Run]:
    program = task.program()
    program.example_inputs = None  # pictures would make half of the file
    torch.export.save(program, path, extra_files={CARD: card})
    module = torch.export.load(path).module()
    return [path], lambda inputs: module(*inputs)


def _write_onnx(task: _Task, path: Path, card: str) -> tuple[list[Path], Run]:
    import onnxruntime  # of the extra, as below

    exported = torch.onnx.export(
        task.program(), input_names=task.inputs, output_names=[task.output], dynamo=True, verbose=False
    )
    assert exported is not None
    exported.model.metadata_props[CARD] = card
    path.write_bytes(exported.model_proto.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> torch.Tensor:
        named = {name: value.numpy() for name, value in zip(task.inputs, inputs, strict=True)}
        return torch.from_numpy(session.run([task.output], named)[0])

    return [path], run


def _write_openvino(task: _Task, path: Path, card: str) -> tuple[list[Path], Run]:
    return _save_openvino(_openvino_of(task), task, path, card)


def _write_openvino_int8(task: _Task, path: Path, card: str) -> tuple[list[Path], Run]:
    import nncf
    import openvino

    if task.rendered is None:
        raise ConfigError("int8 only works for heatmap networks", path.name, remedy="export it as openvino")
    nncf.set_log_level(logging.ERROR)
    windows = nncf.Dataset(task.rendered(), lambda inputs: [value.numpy() for value in inputs])
    subset = CALIBRATION_CLIPS * CALIBRATION_WINDOWS
    quantised: openvino.Model = nncf.quantize(_openvino_of(task), windows, subset_size=subset)
    return _save_openvino(quantised, task, path, card)


def _openvino_of(task: _Task) -> Any:
    """The module as OpenVINO's, straight from torch: in a third of the time that it takes by way of ONNX."""
    import openvino

    shapes = [openvino.PartialShape([-1, *value.shape[1:]]) for value in task.example]
    with torch.inference_mode():
        network = openvino.convert_model(task.module, example_input=task.example, input=shapes)
    for port, name in zip(network.inputs, task.inputs, strict=True):
        port.set_names({name})
    network.outputs[0].set_names({task.output})
    return network


def _save_openvino(network: Any, task: _Task, path: Path, card: str) -> tuple[list[Path], Run]:
    import openvino

    network.set_rt_info(card, CARD)
    openvino.save_model(network, path, compress_to_fp16=False)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(torch.get_num_threads())}
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(inputs: Inputs) -> torch.Tensor:
        named = {name: value.numpy() for name, value in zip(task.inputs, inputs, strict=True)}
        return torch.from_numpy(np.array(compiled(named)[task.output]))

    return [path, path.with_suffix(".bin")], run


_WRITERS: dict[Format, Callable[[_Task, Path, str], tuple[list[Path], Run]]] = {
    "torch-export": _write_torch,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "openvino-int8": _write_openvino_int8,
}


@torch.inference_mode()
def _parity(task: _Task, run: Run) -> Parity:
    wanted, given = task.module(*task.example), run(task.example)
    difference = (wanted - given).abs().nan_to_num(nan=1.0)
    found = task.positions(wanted)
    distance = (found - task.positions(given)).norm(dim=-1)[~torch.isnan(found).any(dim=-1)]
    compared = distance[~torch.isnan(distance)]
    return Parity(
        largest_difference=float(difference.max()),
        differing=float((difference > LARGEST_DIFFERENCE).float().mean()),
        largest_distance_px=float(compared.max()) if len(compared) else 0.0,
        positions=len(compared),
        moved=float((distance.nan_to_num(nan=torch.inf) > 1).float().mean()) if len(distance) else 0.0,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell of their own deprecations and passes; none of it is about the user's model."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Which engine runs a network: the one asked for, or the fastest that was measured on this machine.

auto, nothing measured yet, little to do     torch in the faster precision: other engines take seconds to prepare
auto, nothing measured yet, much to do       all that are installed are prepared and measured, once per machine
auto, measured                               the fastest
one that does not work here                  a word, and torch instead; an error where it was asked for by name
"""

# B batch, T frames in window, H W network px

import time
from functools import partial
from importlib import import_module

import torch

from specktrack import telemetry
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.detector import Engine, Engines
from specktrack.models.heatmap.engines import ENGINES, EngineChoice, EngineName, missing
from specktrack.models.heatmap.engines.artefacts import place_of
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.inference import fast_dtype, has_bf16
from specktrack.models.machine import recalled, remembered

ROUNDS, MOST_S = 5, 20.0
"""Each engine runs a window in turn, so often or so long: what else is at work disturbs all of them."""
WORTH = 1.1
"""torch starts at once: another engine must be faster by this factor."""

log = telemetry.get_logger()


def engines_for(model: Model, *, device: torch.device, engine: EngineChoice = "auto", settle: bool = False) -> Engines:
    """The ``engines`` argument of a Detector; ``settle`` says that there is enough work for measuring to pay."""
    return partial(_engine, model, device, engine, settle)


def _engine(model: Model, device: torch.device, engine: EngineChoice, settle: bool, wh_px: tuple[int, int]) -> Engine:
    if engine != "auto":
        return make(engine, model, wh_px, device)
    plain: EngineName = "eager" if fast_dtype(device) == torch.float32 else "eager-bf16"
    name = _fastest(model, wh_px, device, plain, settle)
    return (_tried(name, model, wh_px, device) if name != plain else None) or make(plain, model, wh_px, device)


def make(name: EngineName, model: Model, wh_px: tuple[int, int], device: torch.device) -> Engine:
    """An engine by name; ConfigError if it is for other devices or its packages are not installed."""
    kind = ENGINES[name]
    if device.type not in kind.devices:
        raise ConfigError(
            f"engine={name} only runs on {' and '.join(kind.devices)}", device.type, remedy="use engine=auto"
        )
    if absent := missing(name):
        raise ConfigError(
            f"engine={name} needs packages that are not installed",
            absent,
            remedy=f"pip install 'specktrack[{kind.extra}]'",
        )
    module, _, function = kind.make.partition(":")
    made: Engine = getattr(import_module(module), function)(model, wh_px, device)
    return made


def _tried(name: EngineName, model: Model, wh_px: tuple[int, int], device: torch.device) -> Engine | None:
    """The engine after its first pass, or a word why it is none."""
    try:
        engine = make(name, model, wh_px, device)
        engine(_noise(model, wh_px))
    except Exception as error:  # noqa: BLE001 -- runtimes raise what they like, and another engine does the same work
        log.warning("an engine does not work here; using another", engine=name, detail=str(error))
        return None
    return engine


def _noise(model: Model, wh_px: tuple[int, int]) -> torch.Tensor:
    """A window uint8 [1, pictures_in, H, W, 3]."""
    assert isinstance(model.config, WindowedConfig)
    shape = (1, model.config.pictures_in, wh_px[1], wh_px[0], 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def candidates(device: torch.device) -> list[EngineName]:
    """Engines that ``auto`` may take on ``device``: installed, of a precision that it computes, with equal rows."""
    return [
        name
        for name, kind in ENGINES.items()
        if kind.automatic and device.type in kind.devices and not missing(name) and (has_bf16(device) or not kind.bf16)
    ]


def _fastest(model: Model, wh_px: tuple[int, int], device: torch.device, plain: EngineName, settle: bool) -> EngineName:
    facts = ("engine", model.config.sha(), wh_px, str(device), torch.get_num_threads())
    if settle:
        found = remembered(lambda: {"windows_per_s": _measured(model, wh_px, device)}, *facts)
    else:
        found = recalled(*facts) or {"windows_per_s": {}}
    rates = {name: rate for name, rate in found["windows_per_s"].items() if name in ENGINES}
    best = max(rates, key=lambda name: rates[name], default=plain)
    if best == plain or rates[best] < WORTH * rates.get(plain, 0.0):
        return plain
    ready = (
        best.startswith("eager") or settle or place_of(model, wh_px, "onnx" if best == "onnx" else "openvino").exists()
    )
    return best if ready else plain


def _measured(model: Model, wh_px: tuple[int, int], device: torch.device) -> dict[str, float]:
    """Windows per second of every candidate that works here, measured in turns."""
    windows = _noise(model, wh_px)
    made = {name: engine for name in candidates(device) if (engine := _tried(name, model, wh_px, device)) is not None}
    seconds: dict[EngineName, list[float]] = {name: [] for name in made}
    end = time.monotonic() + MOST_S
    for _ in range(ROUNDS):
        for name, engine in made.items():
            started = time.perf_counter()
            engine(windows).cpu()
            seconds[name].append(time.perf_counter() - started)
        if time.monotonic() > end:
            break
    rates = {name: round(1 / min(taken), 3) for name, taken in seconds.items()}
    log.info("engines measured", model=model.card.name, size=f"{wh_px[0]}x{wh_px[1]}", windows_per_s=rates)
    return {str(name): rate for name, rate in rates.items()}

"""Public PyTorch layouts: TrackNetV1 to V3, InpaintNet, WASB and the networks that WASB's program compares; ImageNet's
residual networks, pytracking's trackers and MKDNet's student beside its teacher.

Keys are facts read from the public programs; their code is not used.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specktrack.models.importing.layouts import BLOCKS, Layout, Public, place_in_line
from specktrack.models.template.entries import VARIANTS

Replacement = str | Callable[[re.Match[str]], str]


def _renamed(*rules: tuple[str, Replacement]) -> Callable[[str], str]:
    """Applies every rule to a name, in order."""

    def key(name: str) -> str:
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return name

    return key


def _up(by: int, before: str, after: str = "") -> Callable[[re.Match[str]], str]:
    """The first group's number, raised, between two texts."""
    return lambda match: f"{before}{int(match[1]) + by}{after}"


def _epsilon(given: float, ours: float) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Norms compute (x - mean) / sqrt(variance + epsilon) * gain: the gain makes up for another epsilon."""

    def settle(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for name in [name for name in tensors if name.endswith(".running_var")]:
            gain = name.replace(".running_var", ".weight")
            tensors[gain] = tensors[gain] * ((tensors[name] + ours) / (tensors[name] + given)).sqrt()
        return tensors

    return settle


def _frames(public: Public, first: str, last: str, **fields: object) -> dict[str, object]:
    """A network of the line by its first convolution's inputs; fewer outputs than frames are the last frame's."""
    frames, outputs = public.tensors[first].shape[1] // 3, len(public.tensors.get(last, []))
    only_last = {"outputs": "last"} if outputs == 1 and frames > 1 else {}
    return {"frames_in": frames, **only_last, **fields}


_V3_BLOCKS = ("down_block_1", "down_block_2", "down_block_3", "bottleneck", "up_block_1", "up_block_2", "up_block_3")


def _v3_key(name: str) -> str:
    if name.startswith("head."):
        return name.replace("head", "predictor")
    block, index, leaf = name.removeprefix("unet.").split(".")
    triple, layer = divmod(int(index), 3)
    return f"{_V3_BLOCKS[list(BLOCKS).index(block)]}.conv_{triple + 1}.{('conv', 'bn')[layer]}.{leaf}"


def _v3_network(public: Public) -> dict[str, object]:
    """The background mode as noted, else by the number of input channels."""
    frames = len(public.tensors["predictor.weight"])
    noted = {"": "none", "concat": "concat", "subtract": "subtract", "subtract_concat": "subtract-concat"}
    by_channels = {4 * frames: "subtract-concat", frames: "subtract", 3 * frames: "none", 3 * frames + 3: "concat"}
    channels = public.tensors["down_block_1.conv_1.conv.weight"].shape[1]
    mode = noted.get(str(public.settings.get("bg_mode")), by_channels.get(channels, "concat"))
    return {"name": "tracknet-v3", "frames_in": frames, "background": mode}


_WASB_V2_BLOCKS = ("inc", "down1.maxpool_conv.1", "down2.maxpool_conv.1", "down3.maxpool_conv.1",
                   "up1.conv", "up2.conv", "up3.conv")  # fmt: skip


def _wasb_v2_key(name: str) -> str:
    if name.startswith("head."):
        return name.replace("head", "outc.conv")
    block, rest = name.removeprefix("unet.").split(".", 1)
    convs = "double_conv" if BLOCKS[block] == 2 else "triple_conv"
    return f"{_WASB_V2_BLOCKS[list(BLOCKS).index(block)]}.{convs}.{rest}"


def _wasb_v2_settle(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """This program concatenates [skip, upsampled] where ours has [upsampled, skip]."""
    for name, skip in {"unet.up3.0.weight": 256, "unet.up2.0.weight": 128, "unet.up1.0.weight": 64}.items():
        tensors[name] = torch.cat([tensors[name][:, skip:], tensors[name][:, :skip]], dim=1)
    return _epsilon(1e-5, 1e-3)(tensors)


def _numbered(conv: str, leaves: Sequence[str], last: str) -> Callable[[str], str]:
    """Keys of programs that number the convolutions through: ``conv`` is filled with the number."""

    def key(name: str) -> str:
        place = place_in_line(name)
        if place is None:
            return name.replace("head", last)
        number, layer, leaf = place
        return f"{conv.format(number)}.{leaves[layer]}.{leaf}"

    return key


_WASB_KEY = _renamed(
    (r"^stem\.(\d)\.0\.", _up(1, "conv", ".")),
    (r"^stem\.(\d)\.1\.", _up(1, "bn", ".")),
    (r"^stage1\.body\.", "layer1.0.body."),
    (r"^stage1\.shortcut\.", "layer1.0.downsample."),
    (r"^finest\.", "transition1.0."),
    (r"^coarser\.0\.", "transition1.1.0."),
    (r"^coarser\.1\.", "transition2.2.0."),
    (r"^coarser\.2\.", "transition3.3.0."),
    (r"^stages\.(\d)\.", _up(2, "stage", ".0.")),
    (r"\.body\.(\d)\.0\.", _up(1, ".conv", ".")),
    (r"\.body\.(\d)\.1\.", _up(1, ".bn", ".")),
    (r"\.fusions\.(\d)\.resize\.", r".fuse_layers.\1."),
    (r"^head\.", "final_layers.0."),
)

_MONOTRACK_KEY = _renamed(
    (r"^neck(\d)\.", r"inc.conv\1."),
    (r"^down(\d)\.", r"down\1.maxpool_conv.1."),
    (r"^up(\d)\.up\.", lambda match: f"up{4 - int(match[1])}.up."),
    (r"^up(\d)\.block\.", lambda match: f"up{4 - int(match[1])}.conv."),
    (r"\.shortcut\.", ".conv0."),
    (r"\.body\.(\d)\.0\.", r".convs.conv\1."),
    (r"\.body\.(\d)\.1\.", r".convs.bn\1."),
    (r"^head\.", "outc.conv."),
)

_RESTRACKNET_KEY = _renamed(
    (r"^neck\.(\d)\.", _up(1, "inc.conv", ".")),
    (r"\.body\.", ".conv1."),
    (r"\.shortcut\.0\.", ".conv0.1."),
    (r"\.shortcut\.1\.", ".conv0.2."),
    (r"^down(\d+)\.(\d)\.", lambda match: f"down{int(match[1]).bit_length() - 1}.convs.block{match[2]}."),
    (r"^up(\d)\.(\d)\.", lambda match: f"up{5 - int(match[1]).bit_length()}.convs.block{match[2]}."),
    (r"^lift1\.", "up4."),
    (r"^lift(\d)\.", lambda match: f"up{5 - int(match[1]).bit_length()}.conv0."),
    (r"^out\.(\d)\.(\d)\.", lambda match: f"outc.convs.{3 * int(match[1]) + int(match[2])}."),
    (r"^head\.", "outc.convs.6."),
)

_INPAINT_KEY = _renamed(
    (r"^down(\d)\.0\.", r"down_\1.conv."),
    (r"^bottom\.(\d)\.0\.", _up(1, "buttleneck.conv_", ".conv.")),
    (r"^up(\d)\.0\.", lambda match: f"up_{4 - int(match[1])}.conv."),
    (r"^head\.", "predictor."),
)

_BOTTLENECK = "layer1.0.conv3.weight"
"""Only ResNet-50 and its larger relatives have it."""


def _pytracking(public: Public) -> dict[str, object]:
    """By the parts that there are. DiMP50 and Super-DiMP are of one shape: the former has to be named."""
    tensors = public.tensors
    if not any(key.startswith("classifier.") for key in tensors):
        return {"name": "atom"}
    if "classifier.filter_initializer.filter_conv.weight" not in tensors:
        return {"name": "prdimp50"}
    return {"name": "super-dimp"} if f"feature_extractor.{_BOTTLENECK}" in tensors else VARIANTS["dimp18"]


TORCH_LAYOUTS = (
    Layout("TrackNetV3 (qaz812345/TrackNetV3)", "down_block_1.conv_1.conv.weight", _v3_network, _v3_key),
    Layout("InpaintNet (qaz812345/TrackNetV3)", "buttleneck.conv_1.conv.weight",
           lambda public: {"name": "inpaintnet", "frames_in": int(public.settings.get("seq_len", 16))}, _INPAINT_KEY),
    Layout("WASB (nttcom/WASB-SBDT)", "stage4.0.fuse_layers.0.1.0.weight",
           lambda public: _frames(public, "conv1.weight", "final_layers.0.weight", name="wasb"), _WASB_KEY),
    Layout("MonoTrack (nttcom/WASB-SBDT)", "down1.maxpool_conv.1.conv0.weight",
           lambda public: _frames(public, "inc.conv1.0.weight", "", name="monotrack", pixels="imagenet"),
           _MONOTRACK_KEY),
    Layout("ResTrackNetV2 (nttcom/WASB-SBDT)", "down1.convs.block0.conv1.0.weight",
           lambda public: _frames(public, "inc.conv1.0.weight", "", name="restracknet-v2", pixels="imagenet"),
           _RESTRACKNET_KEY),
    Layout("TrackNetV2 (nttcom/WASB-SBDT)", "inc.double_conv.0.weight",
           lambda public: _frames(public, "inc.double_conv.0.weight", "outc.conv.weight", name="tracknet-v2",
                                  pixels="imagenet"),
           _wasb_v2_key, _wasb_v2_settle),
    Layout("TrackNetV2 (ChgygLin/TrackNetV2-pytorch)", "conv2d_1.conv.weight",
           lambda public: _frames(public, "conv2d_1.conv.weight", "conv2d_18.weight", name="tracknet-v2"),
           _numbered("conv2d_{}", ("conv", "", "bn"), "conv2d_18"), _epsilon(1e-5, 1e-3)),
    Layout("TrackNetV1 (yastrebksv/TrackNet)", "conv1.block.0.weight",
           lambda public: _frames(public, "conv1.block.0.weight", "", name="tracknet-v1", pixels="unit"),
           _numbered("conv{}.block", ("0", "", "2"), "conv18.block"), _epsilon(1e-5, 1e-3)),
    Layout("MKDNet (ZYB0726/MKDNet)", "bb_regressor_t.conv3_1r.0.weight", lambda public: {"name": "mkdnet"}, str,
           beside=("feature_extractor_t.", "classifier_t.", "bb_regressor_t.", "feat_D1.", "feat_D2.")),
    Layout("ATOM, DiMP, PrDiMP or Super-DiMP (visionml/pytracking)", "bb_regressor.conv3_1r.0.weight",
           _pytracking, str),
    Layout("ResNet-18 or ResNet-50 (ImageNet, torchvision)", "layer4.1.conv2.weight",
           lambda public: {"name": "super-dimp" if _BOTTLENECK in public.tensors else "atom"},
           lambda name: name.removeprefix("feature_extractor."), part="feature_extractor."),
)  # fmt: skip

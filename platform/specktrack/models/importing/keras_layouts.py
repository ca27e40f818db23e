"""Keras layouts of TrackNetV1, V2 and V4: layers numbered through, told apart by what they have beyond the others.

Their batch norms were given pictures as [C, H, W] and no axis, so that they normalise columns: their sizes say so, and
the network is built with ``norm: column``.
"""

from specktrack.models.importing.layouts import Layout, Public, place_in_line

_LEAVES = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "norm": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
}
_LAST = 18
"""The last convolution's number, in all of them."""


def _key(name: str) -> str:
    if name.startswith("prompt."):
        return name.replace("prompt.", "prompt1/")
    block, _, leaf = name.replace(".norm.", ".").rpartition(".")
    place = place_in_line(name.replace(".norm.", "."))
    number, layer = place[:2] if place else (_LAST, int(block.removeprefix("head").removeprefix(".") or 0))
    kind = "conv" if layer == 0 else "norm"
    return f"{kind}{number}/{_LEAVES[kind].get(leaf, leaf)}"


def _network(public: Public, name: str, default_width: int, **fields: object) -> dict[str, object]:
    first, norm = public.tensors["conv1/kernel"], public.tensors.get("norm1/gamma", ())
    settings: dict[str, object] = {"name": name, "frames_in": first.shape[1] // 3, **fields}
    if len(norm) not in (len(first), 0):
        settings["norm"] = "column"
        if len(norm) != default_width:
            settings["input_wh"] = (len(norm), len(norm) * 9 // 16)
    return settings


def _v2(public: Public) -> dict[str, object]:
    outputs = len(public.tensors.get(f"conv{_LAST}/kernel", ()))
    return _network(public, "tracknet-v2", 512, outputs="last" if outputs == 1 else "all")


KERAS_LAYOUTS = (
    Layout("TrackNetV4 (Keras)", "prompt1/a", lambda public: _network(public, "tracknet-v4", 512, denormalise=True),
           _key),
    Layout("TrackNetV1 (Keras)", f"norm{_LAST}/gamma", lambda public: _network(public, "tracknet-v1", 640), _key),
    Layout("TrackNetV2 (Keras)", "conv1/kernel", _v2, _key),
)  # fmt: skip

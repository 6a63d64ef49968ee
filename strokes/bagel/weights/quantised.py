"""ComfyUI's quantised form: each layer's format and scales, and its matrix widened while it is read.

Source of the form: ComfyUI 0.33, ``QUANTIZATION.md`` and ``comfy/ops.py``. A layer ``L`` of ``L.weight`` is quantised where
there is ``L.comfy_quant`` (JSON as bytes), where the file's metadata ``_quantization_metadata`` names it, or, in the older
form, where there is ``L.scale_weight`` for an fp8 matrix.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ...errors import StrokesError
from ...files import AGAIN
from .header import TensorEntry
from .schema import Part, checked

if TYPE_CHECKING:
    import torch

# Bytes of a layer's JSON at most.
LONGEST = 10_000


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one of ComfyUI's formats stores a matrix.

    ``packed`` columns share one element; rows and columns are padded to ``multiple``. ``needed`` and ``more`` are the
    companions that must and may be there. Widening it takes comfy-kitchen where ``kitchen`` is True.
    """

    dtype: str
    packed: int = 1
    multiple: int = 1
    needed: tuple[str, ...] = ("weight_scale",)
    more: tuple[str, ...] = ()
    kitchen: bool = True


FORMATS = {
    "float8_e4m3fn": Format(dtype="F8_E4M3", more=("input_scale",), kitchen=False),
    "float8_e5m2": Format(dtype="F8_E5M2", more=("input_scale",), kitchen=False),
    "int8_tensorwise": Format(dtype="I8", kitchen=False),
    "mxfp8": Format(dtype="F8_E4M3", multiple=32, more=("input_scale",)),
    "nvfp4": Format(
        dtype="U8",
        packed=2,
        multiple=16,
        needed=("weight_scale", "weight_scale_2"),
        more=("input_scale", "pre_quant_scale"),
    ),
    "convrot_w4a4": Format(dtype="I8", packed=2),
    "asym_w4a8_int8": Format(
        dtype="I8", packed=2, needed=("weight_s_rel", "weight_s_channel"), more=("weight_codebook",)
    ),
}
# The formats that ComfyUI looks rows up in: an embedding of another one is widened.
EMBEDDABLE = ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise")


class LayerJson(Part):
    """The JSON of a layer; older files write the numbers under ``params``."""

    format: Literal[
        "float8_e4m3fn", "float8_e5m2", "int8_tensorwise", "mxfp8", "nvfp4", "convrot_w4a4", "asym_w4a8_int8"
    ]
    full_precision_matrix_mult: bool = False
    convrot: bool = False
    convrot_groupsize: Literal[4, 16, 64, 256, 1024, 4096] = 256
    group_size: int = Field(default=16, ge=4, le=4096)
    linear_dtype: Literal["int4", "int8"] = "int4"


class LayersJson(Part):
    """``_quantization_metadata``: by layer name, the JSON of the layer."""

    layers: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class LayerFormat:
    """The ``format`` of a layer (a name in :data:`FORMATS`), its ``options``, and its companions by ComfyUI's name."""

    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    companions: Mapping[str, TensorEntry] = field(default_factory=dict)

    @property
    def needs_kitchen(self) -> bool:
        """Whether widening it takes comfy-kitchen."""
        return FORMATS[self.format].kitchen or bool(self.options.get("convrot"))


def layer_formats(
    tensors: Mapping[str, TensorEntry], metadata: Mapping[str, str], prefix: str, path: Path
) -> dict[str, LayerFormat]:
    """The format of every quantised layer, by its name without ``prefix``; ``tensors`` are named without it, too.

    Raises :class:`StrokesError` naming the layer: a format that is not known, no matrix, a companion missing or misshapen.
    """
    found: dict[str, LayerFormat] = {}
    for layer, given in _layer_jsons(tensors, metadata, prefix, path).items():
        where = f"{path}: the quantisation of {layer[:200]}"
        if isinstance(params := given.get("params"), dict):
            given = {**params, **given}
        options = checked(LayerJson, given, where).model_dump(exclude_unset=True)
        name = options.pop("format")
        fmt = FORMATS[name]
        companions = {n: tensors[k] for n in (*fmt.needed, *fmt.more) if (k := f"{layer}.{n}") in tensors}
        found[layer] = LayerFormat(name, options, companions)
    found |= _older_formats(tensors)
    for layer, quantised in found.items():
        _check(layer, quantised, tensors, path)
    return found


def _layer_jsons(
    tensors: Mapping[str, TensorEntry], metadata: Mapping[str, str], prefix: str, path: Path
) -> dict[str, dict[str, Any]]:
    """The JSON of every layer, from the tensors ``comfy_quant`` and from the metadata, which wins as in ComfyUI."""
    found = {
        key.removesuffix(".comfy_quant"): _parsed(entry.read_bytes(LONGEST), f"{path}: '{key[:200]}'")
        for key, entry in tensors.items()
        if key.endswith(".comfy_quant")
    }
    if "_quantization_metadata" in metadata:
        where = f"{path}: the metadata _quantization_metadata"
        whole = checked(LayersJson, _parsed(metadata["_quantization_metadata"].encode(), where), where)
        found |= {layer.removeprefix(prefix): given for layer, given in whole.layers.items()}
    return found


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise StrokesError(f"{where} is no JSON object; {AGAIN}")
    return found


def _older_formats(tensors: Mapping[str, TensorEntry]) -> dict[str, LayerFormat]:
    """The layers of the older form. A marker ``scaled_fp8`` of two elements asks for products in full precision."""
    marker = tensors.get("scaled_fp8")
    options = {"full_precision_matrix_mult": True} if marker is not None and marker.parameters == 2 else {}
    found = {}
    for key, scale in tensors.items():
        layer = key.removesuffix(".scale_weight")
        if layer != key:
            weight = tensors.get(f"{layer}.weight")
            companions = {"weight_scale": scale}
            if f"{layer}.scale_input" in tensors:
                companions["input_scale"] = tensors[f"{layer}.scale_input"]
            e5m2 = weight is not None and weight.dtype == "F8_E5M2"
            found[layer] = LayerFormat("float8_e5m2" if e5m2 else "float8_e4m3fn", options, companions)
    return found


def _check(layer: str, found: LayerFormat, tensors: Mapping[str, TensorEntry], path: Path) -> None:
    """Raise StrokesError where a quantised layer's tensors are not what its format says."""
    fmt, where = FORMATS[found.format], f"{path}: {layer[:200]} ({found.format})"
    weight = tensors.get(f"{layer}.weight")
    if weight is None or len(weight.shape) != 2:
        raise StrokesError(f"{where} has no matrix '{layer[:200]}.weight'; {AGAIN}")
    if weight.dtype != fmt.dtype:
        raise StrokesError(f"{where} is stored as {weight.dtype}, not {fmt.dtype}; {AGAIN}")
    for name in fmt.needed:
        if name not in found.companions:
            raise StrokesError(f"{where} lacks its {name}: without it the weights are noise; {AGAIN}")
    if not fmt.kitchen:
        scale = found.companions["weight_scale"]
        a_row_each = found.format == "int8_tensorwise" and scale.shape == (weight.shape[0], 1)
        if scale.dtype not in ("F32", "F16", "BF16") or not (scale.parameters == 1 or a_row_each):
            raise StrokesError(f"{where} has a weight_scale {list(scale.shape)} {scale.dtype}, not one number; {AGAIN}")


def logical_shape(shape: tuple[int, ...], found: LayerFormat | None) -> tuple[int, ...]:
    """The shape of a stored matrix when it is unpacked, its padding included."""
    return shape if found is None else (shape[0], shape[1] * FORMATS[found.format].packed)


def stored_shape(shape: tuple[int, ...], found: LayerFormat | None) -> tuple[int, ...]:
    """The shape :func:`logical_shape` gives of a matrix of ``shape``: padded to the format's multiple."""
    multiple = 1 if found is None else FORMATS[found.format].multiple
    return tuple(-(-side // multiple) * multiple for side in shape)


def check_kitchen(layers: Mapping[str, LayerFormat], path: Path) -> None:
    """Raise :class:`StrokesError` where widening the ``layers`` takes comfy-kitchen and it is not installed."""
    from importlib.util import find_spec

    needing = sorted({layer.format for layer in layers.values() if layer.needs_kitchen})
    if needing and find_spec("comfy_kitchen") is None:
        raise StrokesError(
            f"{path} is stored as {', '.join(needing)}: install comfy-kitchen (pip install comfy-kitchen), or open it in ComfyUI"
        )


def widen(
    weight: torch.Tensor, companions: Mapping[str, torch.Tensor], found: LayerFormat, shape: tuple[int, ...]
) -> torch.Tensor:
    """The float32 matrix of ``shape`` that a stored ``weight`` stands for; ``companions`` by ComfyUI's names."""
    if not found.needs_kitchen:
        return weight.float() * companions["weight_scale"].float()
    wide = _BY_KITCHEN[found.format](weight, companions, found.options)[: shape[0], : shape[1]]
    if (smoothing := companions.get("pre_quant_scale")) is not None:  # ComfyUI multiplies the layer's input by it
        wide = wide * smoothing.float()
    return wide.float().contiguous()


def _nvfp4(weight: torch.Tensor, scales: Mapping[str, torch.Tensor], _: Mapping[str, Any]) -> torch.Tensor:
    import comfy_kitchen
    import torch

    blocks = scales["weight_scale"].view(torch.float8_e4m3fn)
    return comfy_kitchen.dequantize_nvfp4(weight, scales["weight_scale_2"].float(), blocks, torch.float32)


def _mxfp8(weight: torch.Tensor, scales: Mapping[str, torch.Tensor], _: Mapping[str, Any]) -> torch.Tensor:
    import comfy_kitchen
    import torch

    return comfy_kitchen.dequantize_mxfp8(weight, scales["weight_scale"].view(torch.float8_e8m0fnu), torch.float32)


def _int8_convrot(weight: torch.Tensor, scales: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    import comfy_kitchen  # noqa: F401 – it registers the operator
    import torch

    group = options.get("convrot_groupsize", 256)
    unrotate = torch.ops.comfy_kitchen.dequantize_int8_convrot_weight_dtype
    return unrotate(weight, scales["weight_scale"], group, 0)  # 0: float32


def _convrot_w4a4(weight: torch.Tensor, scales: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    import comfy_kitchen

    group = options.get("convrot_groupsize", 256)
    return comfy_kitchen.dequantize_convrot_w4a4_weight(weight, scales["weight_scale"], convrot_groupsize=group)


def _asym_w4a8(weight: torch.Tensor, scales: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.Tensor:
    import comfy_kitchen
    import torch

    relative = scales["weight_s_rel"]
    return comfy_kitchen.dequantize_w4a8_int8_weight(
        weight,
        relative.view(torch.float8_e4m3fn) if relative.dtype == torch.uint8 else relative,
        scales["weight_s_channel"],
        codebook=scales.get("weight_codebook"),
        group_size=options.get("group_size", 16),
        convrot_groupsize=options.get("convrot_groupsize", 256),
        output_dtype=torch.float32,
    )


_BY_KITCHEN: Mapping[str, Callable[..., Any]] = {
    "nvfp4": _nvfp4,
    "mxfp8": _mxfp8,
    "int8_tensorwise": _int8_convrot,
    "convrot_w4a4": _convrot_w4a4,
    "asym_w4a8_int8": _asym_w4a8,
}

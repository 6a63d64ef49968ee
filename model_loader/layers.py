"""How ComfyUI reads a checkpoint and computes with it: its reader, its layers, and the type of the activations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management as memory
import comfy.ops
import comfy.quant_ops
import comfy.utils
import torch
from torch import Tensor

from ..strokes.bagel.network.operations import Operations
from ..strokes.bagel.weights.quantised import LayerFormat
from ..strokes.errors import StrokesError

_FULL_PRECISION = {"full_precision_matrix_mult": True}
# The number 1 in a file, as float32, bfloat16 and float16.
_ONES = (b"\x00\x00\x80\x3f", b"\x80\x3f", b"\x00\x3c")


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped by ComfyUI's own reader.

    Where ComfyUI streams weights, each carries the place in its file that they are streamed from. Raises StrokesError where
    the address space or its commit charge has no room for the file.
    """
    try:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    except (OSError, MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise StrokesError(
            f"{path.name} cannot be mapped into memory ({reason}): free some, enlarge the page file, or take a smaller file"
        ) from None


def activation_type(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type to compute in with a network in ``dtype``: that one; float32 instead of bfloat16 that a card is slow with."""
    # A CPU computes in bfloat16 here as it does for the command line.
    slow = not memory.is_device_cpu(device) and not memory.should_use_bf16(device)
    return torch.float32 if dtype == torch.bfloat16 and slow else dtype


def operations_for(formats: Collection[str], activations: torch.dtype, device: torch.device) -> Operations:
    """ComfyUI's layers for a checkpoint with layers quantised in ``formats``; none: those that cast while computing.

    Raises StrokesError for a format that this ComfyUI does not know.
    """
    if not formats:
        return comfy.ops.manual_cast
    if unknown := sorted(name for name in formats if not _is_known(name)):
        raise StrokesError(
            f"this ComfyUI cannot compute with weights of the format {unknown[0]}: update ComfyUI and its comfy-kitchen"
        )
    # ComfyUI's own choice of what the card multiplies natively.
    config = SimpleNamespace(quant_config={"mixed_ops": True})
    return comfy.ops.pick_operations(None, activations, device, model_config=config)


def with_safe_products(layers: Mapping[str, LayerFormat]) -> dict[str, LayerFormat]:
    """The formats of quantised layers, by name: fp8 ones without a measured scale of their input multiply in full precision.

    Otherwise ComfyUI casts their input without a scale on cards that multiply fp8, which cuts it off at 448. Language models
    have larger activations; ComfyUI's own multiply in full precision, too.
    """
    return {
        name: layer if _input_is_measured(layer) else replace(layer, options={**layer.options, **_FULL_PRECISION})
        for name, layer in layers.items()
    }


def _input_is_measured(layer: LayerFormat) -> bool:
    scale = layer.companions.get("input_scale")
    # Other formats take each input's own scale. Converters write a 1 where nothing was measured.
    return not layer.format.startswith("float8") or (scale is not None and scale.read_bytes(4) not in _ONES)


def _is_known(name: str) -> bool:
    found = comfy.quant_ops.QUANT_ALGOS.get(name)
    # ComfyUI without its comfy-kitchen has names of formats and no layouts.
    return found is not None and comfy.quant_ops.get_layout_class(found["comfy_tensor_layout"]) is not None

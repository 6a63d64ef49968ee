"""LoRAs on a unified model, through ComfyUI's own patcher, which undoes them exactly."""

from __future__ import annotations

from pathlib import Path

import comfy.lora
import comfy.utils
from comfy.weight_adapter.lora import LoRAAdapter

from ..strokes.errors import StrokesError
from ..strokes.files import shapes_of
from .loader import UnifiedModel

# Prefixes of a layer's name: none, PEFT's wrapper, and the names that other trainers give the network. In the flat form
# (kohya's) underscores stand for the dots in a name.
PREFIXES = ("", "base_model.model.", "model.", "bagel.", "transformer.", "diffusion_model.")
FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_", "lora_")


def key_map(keys: list[str]) -> dict[str, str]:
    """LoRA layer name → key of the network, for every common form of the names of all ``keys`` that end in ``.weight``."""
    found: dict[str, str] = {}
    for key in keys:
        name = key.removesuffix(".weight")
        if name != key:
            found |= {prefix + name: key for prefix in PREFIXES}
            found |= {prefix + name.replace(".", "_"): key for prefix in FLAT_PREFIXES}
    return found


def apply_lora(model: UnifiedModel, path: Path, strength: float) -> UnifiedModel:
    """A model with the LoRA of a file added at ``strength``; the one given stays as it is.

    Raises StrokesError where the file is damaged, fits none of the layers, or has other shapes.
    """
    shapes_of(path)  # raises for a truncated file, naming it
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    patchers, used = [], 0
    for patcher in model.painter.patchers:
        weights = patcher.model_state_dict()
        patches = comfy.lora.load_lora(tensors, key_map(list(weights)), log_missing=False)
        for key, adapter in patches.items():
            if key not in weights:
                raise StrokesError(f"{path.name} changes {key}, which {model.painter.profile.name} has not")
            # Of a quantised weight the state holds the packed numbers; the module's own has the layer's shape.
            _check(path, key, adapter, tuple(comfy.utils.get_attr(patcher.model, key).shape))
        clone = patcher.clone()
        if patches:
            clone.add_patches(patches, strength)
        used += len(patches)
        patchers.append(clone)
    if not used:
        first = next(iter(tensors), "nothing")
        raise StrokesError(
            f"{path.name} fits no layer of {model.painter.profile.name} (its first key is {first}): choose a LoRA that "
            "was trained on this network"
        )
    return model.with_patchers(patchers)


def _check(path: Path, key: str, adapter: object, shape: tuple[int, ...]) -> None:
    """Raise StrokesError where a LoRA's product is not of the weight's shape; other kinds of patches are not checked."""
    if not isinstance(adapter, LoRAAdapter):
        return
    up, down = adapter.weights[:2]
    made = (up.shape[0], down.shape[1])
    if made != shape:
        raise StrokesError(f"{path.name}: the LoRA of {key} is for {list(made)}, the network's is {list(shape)}")

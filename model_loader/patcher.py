"""ComfyUI's model patchers, and one whose memory includes a prefix cache: counted as loaded, given up before weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import nn

from ..strokes.bagel.engine.prefix_cache import PrefixCache


class Container(nn.Module):
    """The root module of a patcher: children under the names that their keys in a checkpoint begin with."""

    # Set by make_patcher where it is given one.
    prefix_cache: PrefixCache

    def __init__(self, children: dict[str, nn.Module]):
        super().__init__()
        for name, module in children.items():
            self.add_module(name, module)


class _InInferenceMode(comfy.model_patcher.ModelPatcher if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin before a ``ModelPatcher``: it is unloaded inside inference mode, as it is loaded.

    ComfyUI runs nodes inside it, and unloads outside it for POST /free. A quantised weight that was moved or unpatched
    outside cannot be moved inside again.
    """

    def detach(self, unpatch_all: bool = True) -> Any:
        with torch.inference_mode():
            return super().detach(unpatch_all)


class _WithPrefixCache(_InInferenceMode):
    """Mixin before a ``ModelPatcher``. The prefix cache is ``self.model.prefix_cache``, one for all clones of the patcher."""

    def model_size(self) -> int:
        """Bytes of the weights and of the prefix cache."""
        return super().model_size() + self.model.prefix_cache.nbytes

    def loaded_size(self) -> int:
        """Bytes on the device that ComfyUI may ask back."""
        # ComfyUI reclaims what a dynamic patcher has loaded page by page, which a prefix cache does not allow.
        return super().loaded_size() + (0 if self.is_dynamic() else self.model.prefix_cache.nbytes)

    def load(self, *args: Any, **kwargs: Any) -> None:
        super().load(*args, **kwargs)
        # A full load records model_size() as the weights' bytes, which counts the prefix cache twice.
        self.model.model_loaded_weight_memory = min(self.model.model_loaded_weight_memory, self.size)

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        # The base gives the clone model_size() as the weights' bytes, with the prefix cache of this moment in it.
        copy = super().clone(*args, **kwargs)
        copy.size = self.size
        return copy

    def partially_unload(
        self, device_to: torch.device, memory_to_free: float = 0, force_patch_weights: bool = False
    ) -> int:
        """Free ``memory_to_free`` bytes, of the prefix cache first; returns the bytes freed."""
        freed = self.model.prefix_cache.evict(memory_to_free)
        if 0 < memory_to_free <= freed:
            return freed
        return freed + super().partially_unload(device_to, memory_to_free - freed, force_patch_weights)

    def detach(self, unpatch_all: bool = True) -> Any:
        # With unpatch_all=False ComfyUI detaches a patcher only to load it again: the prefix cache stays.
        if unpatch_all:
            self.model.prefix_cache.clear()
        return super().detach(unpatch_all)


def make_patcher(
    container: Container,
    load_device: torch.device,
    offload_device: torch.device,
    prefix_cache: PrefixCache | None = None,
) -> Any:
    """ComfyUI's patcher of ``container`` for this device. One with a ``prefix_cache`` counts and frees its memory too."""
    # The dynamic patcher replaces itself by the plain one on a CPU, which a subclass of it would not survive. main.py
    # rebinds CoreModelPatcher, so it is looked up only now.
    plain = comfy.model_management.is_device_cpu(load_device)
    kind = comfy.model_patcher.ModelPatcher if plain else comfy.model_patcher.CoreModelPatcher
    mixin = _InInferenceMode
    if prefix_cache is not None:
        container.prefix_cache, mixin = prefix_cache, _WithPrefixCache
    return type("Patcher", (mixin, kind), {})(container, load_device, offload_device)

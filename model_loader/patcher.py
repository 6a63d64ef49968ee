"""ComfyUI's model patcher with the KV prefix cache in it: counted in the model's size, given up first when memory is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import torch


class _WithPrefixCache(comfy.model_patcher.ModelPatcher if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin before a ``ModelPatcher``; the prefix cache is ``self.model.prefix_cache``, shared by all clones of the patcher."""

    def model_size(self) -> int:
        return super().model_size() + self.model.prefix_cache.nbytes

    def loaded_size(self) -> int:
        # What a dynamic patcher has loaded, ComfyUI takes for reclaimable page by page, which the prefix cache is not.
        return super().loaded_size() + (0 if self.is_dynamic() else self.model.prefix_cache.nbytes)

    def load(self, *args: Any, **kwargs: Any) -> None:
        super().load(*args, **kwargs)
        # A full load takes model_size() for the weights' share.
        self.model.model_loaded_weight_memory = min(self.model.model_loaded_weight_memory, self.size)

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        # The base hands model_size() on as the size of the weights, which would count the prefix cache for good.
        copy = super().clone(*args, **kwargs)
        copy.size = self.size
        return copy

    def partially_unload(self, device_to: torch.device, memory_to_free: float = 0, force_patch_weights: bool = False):
        freed = self.model.prefix_cache.evict(memory_to_free)
        if 0 < memory_to_free <= freed:
            return freed
        return freed + super().partially_unload(device_to, memory_to_free - freed, force_patch_weights)

    def detach(self, unpatch_all: bool = True) -> Any:
        # ComfyUI also detaches a patcher, keeping its weights where they are, each time it loads it again.
        if unpatch_all:
            self.model.prefix_cache.clear()
        return super().detach(unpatch_all)


def patcher(container: torch.nn.Module, load_device: torch.device, offload_device: torch.device) -> Any:
    """A patcher of the kind ComfyUI uses for this device; with the prefix cache where ``container.prefix_cache`` exists."""
    # The dynamic patcher replaces itself by the plain one on a CPU, which a subclass of it would not survive. main.py
    # rebinds CoreModelPatcher, so it is looked up only now.
    plain = comfy.model_management.is_device_cpu(load_device)
    kind = comfy.model_patcher.ModelPatcher if plain else comfy.model_patcher.CoreModelPatcher
    if hasattr(container, "prefix_cache"):
        kind = type("PrefixCachePatcher", (_WithPrefixCache, kind), {})
    return kind(container, load_device, offload_device)

"""Checkpoint, precision and device → :class:`UnifiedModel`, the value of a ``STROKES_MODEL`` wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import comfy.latent_formats
import comfy.model_management as memory
import comfy.ops
import torch
from torch import nn

from ..strokes.bagel.engine.prefix_cache import PrefixCache
from ..strokes.bagel.engine.runner import Runner
from ..strokes.bagel.weights.checkpoint import find_weights, load
from .bagel import Container, ManagedAutoencoder, ManagedPainter, split
from .patcher import patcher

PRECISIONS = {"auto": None, "bfloat16": torch.bfloat16, "float32": torch.float32}
DEVICES = ("auto", "cpu")


class UnifiedModel:
    """A loaded checkpoint, perhaps with LoRAs on it; ``painter`` is what the process works with.

    ComfyUI finds the patchers through ``patcher`` and ``get_models``.
    """

    def __init__(self, painter: ManagedPainter, base: UnifiedModel | None = None):
        self.painter = painter
        # Whoever holds the model with a LoRA keeps the one without, so that neither is ever loaded twice.
        self.base = base

    def is_dynamic(self) -> bool:
        """Whether ComfyUI streams it by itself: such an output is not given up under pressure while it is in use."""
        return self.patcher.is_dynamic()

    @property
    def patcher(self) -> Any:
        return self.painter.patchers[0]

    def get_models(self) -> list[Any]:
        return [*self.painter.patchers, self.painter.autoencoder]

    def with_patchers(self, patchers: Sequence[Any]) -> UnifiedModel:
        """The same weights behind other patchers."""
        painter = ManagedPainter(self.painter.checkpoint, self.painter.prefix_cache, patchers, self.painter.autoencoder)
        return UnifiedModel(painter, self.base or self)


def weights_fingerprint(path: Path) -> str:
    """Modification time and size of a model's weights file. Raises StrokesError where there is none."""
    file = find_weights(path).stat()
    return f"{file.st_mtime_ns}/{file.st_size}"


# Finds what some node's output still holds; holds nothing itself.
_loaded: WeakValueDictionary[tuple, UnifiedModel] = WeakValueDictionary()


def load_unified(path: Path, precision: str = "auto", device: str = "auto") -> UnifiedModel:
    """Load a checkpoint, or return it where it is loaded already.

    Raises StrokesError for anything :func:`.checkpoint.load` does.
    """
    weights = find_weights(path)
    key = (str(weights), weights_fingerprint(weights), precision, device)
    found = _loaded.get(key)
    if found is None:
        found = _loaded[key] = _load(weights, PRECISIONS[precision], device)
    return found


def _load(weights: Path, dtype: torch.dtype | None, device: str) -> UnifiedModel:
    load_device = torch.device("cpu") if device == "cpu" else memory.get_torch_device()
    offload_device = torch.device("cpu") if device == "cpu" else memory.unet_offload_device()
    checkpoint = load(weights, "cpu", dtype, comfy.ops.manual_cast)
    prefix_cache = PrefixCache(Runner(checkpoint.model, checkpoint.special, load_device))
    # A card that streams the weights keeps most of itself for them.
    prefix_cache.capacity = min(prefix_cache.capacity, memory.get_total_memory(load_device) // 8)
    containers = split(checkpoint.model)
    containers[0].prefix_cache = prefix_cache
    patchers = [patcher(container, load_device, offload_device) for container in containers]

    module = checkpoint.autoencoder.module
    if device == "auto":
        load_device, offload_device = memory.vae_device(), memory.vae_offload_device()
    # diffusers' own ``to`` warns about modules it would keep in float32, of which this one has none.
    nn.Module.to(module, memory.vae_dtype(load_device, [torch.bfloat16]))
    autoencoder = patcher(Container({"autoencoder": module}), load_device, offload_device)
    managed = ManagedAutoencoder(checkpoint.autoencoder, autoencoder)
    return UnifiedModel(ManagedPainter(replace(checkpoint, autoencoder=managed), prefix_cache, patchers, autoencoder))

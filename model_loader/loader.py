"""Checkpoint, precision and device → :class:`UnifiedModel`, the value of a ``STROKES_MODEL`` wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import comfy.model_management as memory
import torch
from torch import nn

from ..strokes.bagel.engine.prefix_cache import PrefixCache
from ..strokes.bagel.engine.runner import Runner
from ..strokes.bagel.network.autoencoder import Autoencoder
from ..strokes.bagel.weights.checkpoint import Checkpoint, load_recognised, run_dtype
from ..strokes.bagel.weights.companions import AUTOENCODERS
from ..strokes.bagel.weights.recognise import Recognised, recognise
from ..strokes.bagel.weights.speech import Speech, speech_of
from ..strokes.errors import StrokesError
from ..strokes.process.dialects.choice import AUTO
from .bagel import ManagedAutoencoder, ManagedPainter, split
from .folders import companion_places
from .layers import activation_type, operations_for, read_file, with_safe_products
from .patcher import Container, make_patcher

PRECISIONS = {"auto": None, "bfloat16": torch.bfloat16, "float32": torch.float32}
DEVICES = ("auto", "cpu")
# Where in ComfyUI a companion may lie that is not beside the weights.
ELSEWHERE = {"autoencoder": ", and put it there or into models/vae"}


class UnifiedModel:
    """The value of a ``STROKES_MODEL`` wire: a painter under ComfyUI's memory management, perhaps with LoRAs on it.

    ComfyUI finds the patchers of a value through ``patcher`` and ``get_models``.
    """

    def __init__(self, painter: ManagedPainter, base: UnifiedModel | None = None):
        self.painter = painter
        # The model without LoRAs: it stays loaded for as long as one with LoRAs is used, so that it is never loaded twice.
        self.base = base

    def is_dynamic(self) -> bool:
        """Whether ComfyUI streams the weights: it then keeps this output under memory pressure while it is in use."""
        return self.patcher.is_dynamic()

    @property
    def patcher(self) -> Any:
        return self.painter.patchers[0]

    def get_models(self) -> list[Any]:
        return [*self.painter.patchers, self.painter.autoencoder_patcher]

    def with_patchers(self, patchers: Sequence[Any]) -> UnifiedModel:
        """The same weights behind other patchers, of the same modules in the same order."""
        old = self.painter
        painter = ManagedPainter(old.checkpoint, old.prefix_cache, patchers, old.autoencoder_patcher)
        return UnifiedModel(painter, self.base or self)


# By path: what was recognised, and the stamps of its files then. A run asks three times, and each reads every header.
_recognised: dict[Path, tuple[Recognised, str]] = {}


def recognise_checkpoint(path: Path, dialect: str = AUTO) -> tuple[Recognised, Speech]:
    """What is known of a model folder or weights file from its headers and JSON files, without building it, and how it is
    spoken to.

    Raises StrokesError naming a part that is missing, the kind of a file that is not read, or a dialect that is none, and
    what to do.
    """
    places = companion_places()
    known = _recognised.get(path)
    if known is None or _stamps(known[0]) != known[1]:
        found = recognise(path, places)
        for part in found.missing:
            if part.needed:
                raise StrokesError(f"{part.costs}{ELSEWHERE.get(part.what, '')}")
        known = _recognised[path] = (found, _stamps(found))
    return known[0], speech_of(known[0], dialect, places)


def fingerprint(found: Recognised, speech: Speech) -> str:
    """Path, modification time and size of every file that a model is made of, companions from elsewhere included, and the
    content of its dialect."""
    return f"{_stamps(found)}|{speech}"


def _stamps(found: Recognised) -> str:
    folder, tokenizer = found.weights.parent, found.tokenizer or found.weights.parent
    files = {found.weights, *found.files, *(folder / name for name in AUTOENCODERS)}
    files |= {found.autoencoder} if found.autoencoder else set()
    files |= {file for place in (folder, tokenizer) for file in place.iterdir() if file.suffix in (".json", ".txt")}
    return "|".join(f"{file}/{_stamp(file)}" for file in sorted(files))


def _stamp(file: Path) -> str:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return "none"
    return f"{stat.st_mtime_ns}/{stat.st_size}"


# By fingerprint, precision and device: the models that some node's output still holds.
_loaded: WeakValueDictionary[tuple[str, str, str], UnifiedModel] = WeakValueDictionary()


def load_unified(path: Path, precision: str = "auto", device: str = "auto", dialect: str = AUTO) -> UnifiedModel:
    """The model of a folder or weights file, in one of ``PRECISIONS`` on one of ``DEVICES``, spoken to in a dialect; loaded
    only once.

    Raises StrokesError where :func:`recognise_checkpoint` does, and where a tensor is misshapen.
    """
    recognised, speech = recognise_checkpoint(path, dialect)
    key = (fingerprint(recognised, speech), precision, device)
    found = _loaded.get(key)
    if found is None:
        found = _loaded[key] = _open(recognised, speech, PRECISIONS[precision], device)
    return found


def _open(found: Recognised, speech: Speech, dtype: torch.dtype | None, device: str) -> UnifiedModel:
    on_cpu = device == "cpu"
    load_device = torch.device("cpu") if on_cpu else memory.get_torch_device()
    offload_device = torch.device("cpu") if on_cpu else memory.unet_offload_device()
    checkpoint = _load(found, speech, dtype, load_device)
    prefix_cache = PrefixCache(Runner(checkpoint.model, checkpoint.special, load_device))
    # A card that streams the weights keeps most of itself for them.
    prefix_cache.capacity = min(prefix_cache.capacity, memory.get_total_memory(load_device) // 8)
    language, *vision = split(checkpoint.model)
    patchers = [
        make_patcher(language, load_device, offload_device, prefix_cache),
        *(make_patcher(each, load_device, offload_device) for each in vision),
    ]
    autoencoder = _manage(checkpoint.autoencoder, on_cpu)
    checkpoint = replace(checkpoint, autoencoder=autoencoder)
    return UnifiedModel(ManagedPainter(checkpoint, prefix_cache, patchers, autoencoder.patcher))


def _load(found: Recognised, speech: Speech, dtype: torch.dtype | None, device: torch.device) -> Checkpoint:
    """The checkpoint in ComfyUI's layers on the CPU, to be computed with on ``device``; ``dtype`` None: as it suits both."""
    dtype = dtype or run_dtype(found)
    activations = activation_type(dtype, device)
    operations = operations_for({layer.format for layer in found.quantised.values()}, activations, device)
    found = replace(found, quantised=with_safe_products(found.quantised))
    checkpoint = load_recognised(found, speech, "cpu", dtype, operations, read_file, keep_quantised=True)
    checkpoint.model.activations = activations
    return checkpoint


def _manage(autoencoder: Autoencoder, on_cpu: bool) -> ManagedAutoencoder:
    """The autoencoder in the precision and behind a patcher of the device that ComfyUI runs autoencoders on."""
    load_device = torch.device("cpu") if on_cpu else memory.vae_device()
    offload_device = torch.device("cpu") if on_cpu else memory.vae_offload_device()
    module = autoencoder.module
    # diffusers' own ``to`` warns about modules it would keep in float32, of which this one has none.
    nn.Module.to(module, memory.vae_dtype(load_device, [torch.bfloat16]))
    patcher = make_patcher(Container({"autoencoder": module}), load_device, offload_device)
    return ManagedAutoencoder(module, autoencoder.scale, autoencoder.shift, patcher)

"""BAGEL under ComfyUI's memory management: its modules behind patchers, and the painter that brings them to their device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.latent_formats
import comfy.model_management as memory
import comfy.ops
import torch
from PIL import Image
from torch import Tensor, nn

from ..strokes.bagel.engine.prefix_cache import PrefixCache
from ..strokes.bagel.images import to_image
from ..strokes.bagel.network.autoencoder import Autoencoder
from ..strokes.bagel.network.model import Bagel
from ..strokes.bagel.painter import BagelPainter
from ..strokes.bagel.weights.checkpoint import Checkpoint
from ..strokes.process.painter import Painted, Written

VISION_PARTS = ("vit_model", "connector", "vit_pos_embed")

# Bytes an element that one pixel needs while the FLUX autoencoder works on it, as ComfyUI estimates.
AE_BYTES_PER_PIXEL = 2178


class ManagedAutoencoder(Autoencoder):
    """The autoencoder, brought to its device each time it is used; anything may have run since the last time."""

    def __init__(self, autoencoder: Autoencoder, owner: Any):
        super().__init__(autoencoder.module, autoencoder.scale, autoencoder.shift)
        self.patcher = owner

    def _load(self, pixels: int) -> None:
        needed = pixels * AE_BYTES_PER_PIXEL * self._where["dtype"].itemsize
        # Its layers are diffusers' own and cannot be streamed, so all of it or nothing.
        memory.load_models_gpu([self.patcher], memory_required=needed, force_full_load=True)

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self._load(pixels[:, 0].numel())
        return super().moments(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        self._load(latents[:, 0].numel() * 64)
        return super().decode(latents)


class ManagedPainter(BagelPainter):
    """A painter whose network is brought to its device before it writes and paints; anything may have run in between."""

    def __init__(self, checkpoint: Checkpoint, prefix_cache: PrefixCache, patchers: Sequence[Any], autoencoder: Any):
        """``patchers`` are the language model's and the vision model's, ``autoencoder`` is its own."""
        # A patch makes the same prefix mean other keys and values.
        super().__init__(checkpoint, prefix_cache, "/".join(str(p.patches_uuid) for p in patchers))
        self.patchers, self.autoencoder = tuple(patchers), autoencoder

    def write_text(self, *args: Any, **kwargs: Any) -> Written:
        self._load()
        return super().write_text(*args, **kwargs)

    def paint_picture(self, *args: Any, **kwargs: Any) -> Painted:
        self._load()
        return super().paint_picture(*args, **kwargs)

    def _load(self) -> None:
        # Once for all that is prefilled: loading again makes room by evicting what was just computed.
        config = self.checkpoint.model.config
        language = config.language
        # Three guidance branches of the largest canvas, one layer's activations.
        rows = 3 * config.max_latent_size**2
        needed = (
            rows * (2 * language.intermediate_size + 8 * language.hidden_size) * self.checkpoint.model.dtype.itemsize
        )
        to_fill = max(self.prefix_cache.capacity - self.prefix_cache.nbytes, 0)
        memory.load_models_gpu(list(self.patchers), memory_required=needed + to_fill)

    def preview(self, latents: Tensor) -> Image.Image:
        if not self.checkpoint.autoencoder.is_flux:
            return super().preview(latents)
        # Decoding would push the network out of a GPU's memory in the middle of a picture.
        flux = comfy.latent_formats.Flux()
        z = latents.float().cpu()
        pixels = torch.einsum("chw,cd->dhw", z, torch.tensor(flux.latent_rgb_factors))
        pixels += torch.tensor(flux.latent_rgb_factors_bias)[:, None, None]
        return to_image(pixels)


class Container(nn.Module):
    """Modules under the names that their keys begin with."""

    prefix_cache: PrefixCache

    def __init__(self, parts: dict[str, nn.Module]):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def split(model: Bagel) -> list[Container]:
    """The language model with all embeddings, and the vision model with its connector, where there is one."""
    parts = dict(model.named_children())
    vision = {name: parts.pop(name) for name in VISION_PARTS if name in parts}
    return [Container(parts), *([Container(vision)] if vision else [])]

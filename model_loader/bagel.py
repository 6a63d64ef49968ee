"""BAGEL under ComfyUI's memory management: its modules behind patchers, and the painter that brings them to their device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.latent_formats
import comfy.model_management as memory
import comfy.ops
import torch
from PIL import Image
from torch import Tensor

from ..strokes.bagel.engine.prefix_cache import PrefixCache
from ..strokes.bagel.images import to_image
from ..strokes.bagel.network.autoencoder import Autoencoder
from ..strokes.bagel.network.model import Bagel
from ..strokes.bagel.painter import BagelPainter
from ..strokes.bagel.weights.checkpoint import Checkpoint
from ..strokes.process.settings import Painted, Scored, Written
from .patcher import Container

# Module names of the vision model, as in the checkpoint's keys.
VISION_PARTS = ("vit_model", "connector", "vit_pos_embed")

# Elements of activations for one pixel while FLUX's autoencoder runs: ComfyUI's own estimate.
AE_ELEMENTS_PER_PIXEL = 2178
PIXELS_PER_LATENT = 8 * 8


class ManagedAutoencoder(Autoencoder):
    """An autoencoder that is on its device whenever it runs. Other nodes may have pushed it out since the last time."""

    def __init__(self, module: Any, scale: float, shift: float, patcher: Any):
        """``module`` is diffusers' ``AutoencoderKL``, ``patcher`` the ``ModelPatcher`` that holds it."""
        super().__init__(module, scale, shift)
        self.patcher = patcher

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self._bring_to_device(pixels[:, 0].numel())
        return super().moments(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        self._bring_to_device(latents[:, 0].numel() * PIXELS_PER_LATENT)
        return super().decode(latents)

    def _bring_to_device(self, pixels: int) -> None:
        needed = pixels * AE_ELEMENTS_PER_PIXEL * self._where["dtype"].itemsize
        # diffusers' layers cannot be streamed.
        memory.load_models_gpu([self.patcher], memory_required=needed, force_full_load=True)


class ManagedPainter(BagelPainter):
    """A painter whose network is on its device whenever it runs. Other nodes may have pushed it out since the last time."""

    def __init__(
        self, checkpoint: Checkpoint, prefix_cache: PrefixCache, patchers: Sequence[Any], autoencoder_patcher: Any
    ):
        """``patchers`` are the language model's and, where there is one, the vision model's ``ModelPatcher``."""
        # Keys and values of a prefix depend on the patches that were on the weights: the cache tells them apart by this.
        super().__init__(checkpoint, prefix_cache, "/".join(str(patcher.patches_uuid) for patcher in patchers))
        self.patchers, self.autoencoder_patcher = tuple(patchers), autoencoder_patcher

    def write_text(self, *args: Any, **kwargs: Any) -> Written:
        self._bring_to_device()
        return super().write_text(*args, **kwargs)

    def score(self, *args: Any, **kwargs: Any) -> Scored:
        self._bring_to_device()
        return super().score(*args, **kwargs)

    def paint_picture(self, *args: Any, **kwargs: Any) -> Painted:
        self._bring_to_device()
        return super().paint_picture(*args, **kwargs)

    def _bring_to_device(self) -> None:
        # Once, with room for all that will be prefilled: loading again would evict what was just computed.
        to_fill = max(self.prefix_cache.capacity - self.prefix_cache.nbytes, 0)
        memory.load_models_gpu(list(self.patchers), memory_required=self._activation_bytes() + to_fill)

    def _activation_bytes(self) -> int:
        """One layer's activations of the largest canvas under three guidance branches."""
        config = self.checkpoint.model.config
        rows = 3 * config.max_latent_size**2
        elements = 2 * config.language.intermediate_size + 8 * config.language.hidden_size
        return rows * elements * self.checkpoint.model.dtype.itemsize

    def preview(self, latents: Tensor) -> Image.Image:
        """FLUX's latents through ComfyUI's linear map to RGB, others decoded.

        Decoding would push a large network out of a GPU's memory in the middle of a picture.
        """
        if not self.checkpoint.autoencoder.is_flux:
            return super().preview(latents)
        flux = comfy.latent_formats.Flux()
        z = latents.float().cpu()
        pixels = torch.einsum("chw,cd->dhw", z, torch.tensor(flux.latent_rgb_factors))
        pixels += torch.tensor(flux.latent_rgb_factors_bias)[:, None, None]
        return to_image(pixels)


def split(model: Bagel) -> list[Container]:
    """The language model with all embeddings, and the vision model with its connector, where there is one."""
    children = dict(model.named_children())
    vision = {name: children.pop(name) for name in VISION_PARTS if name in children}
    return [Container(children), *([Container(vision)] if vision else [])]

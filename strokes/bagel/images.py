"""Images to tensors and back, and the resize of the reference's image transforms."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..process.pictures import to_rgb
from .network.config import ResizeRule


def resized(size: tuple[int, int], rule: ResizeRule) -> tuple[int, int]:
    """The (width, height) that ``rule`` resizes an image of ``size`` to.

    Source: the reference, which corrects in this order and scales too large an area by its ratio, not the root of it.
    """

    def scaled(sides: tuple[int, int], scale: float) -> tuple[int, int]:
        w, h = (max(rule.stride, round(round(s * scale) / rule.stride) * rule.stride) for s in sides)
        return w, h

    out = scaled(size, max(min(rule.max / max(size), 1.0), rule.min / min(size)))
    if out[0] * out[1] > rule.max_pixels:
        out = scaled(out, rule.max_pixels / (out[0] * out[1]))
    if max(out) > rule.max:
        out = scaled(out, rule.max / max(out))
    return out


def resize(image: Image.Image, rule: ResizeRule) -> Image.Image:
    """The image in RGB at the size of :func:`resized`, by PIL's antialiased bicubic filter."""
    return to_rgb(image).resize(resized(image.size, rule), Image.Resampling.BICUBIC)


def to_tensor(image: Image.Image) -> Tensor:
    """Pixels ``[3, H, W]``, float32 in −1…1, of an RGB image."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)) / 255
    return rearrange((pixels - 0.5) / 0.5, "h w c -> c h w")


def to_image(pixels: Tensor) -> Image.Image:
    """The RGB image of pixels ``[3, H, W]`` about −1…1: clamped, then truncated to 8 bits, as the reference does."""
    array = ((pixels.float().cpu() * 0.5 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    return Image.fromarray(rearrange(array, "c h w -> h w c").contiguous().numpy())

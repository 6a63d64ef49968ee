"""Pictures in and out: the reference's resize rule, PIL to tensors and back."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..process.pictures import to_rgb
from .network.config import ResizeRule


def resized(size: tuple[int, int], rule: ResizeRule) -> tuple[int, int]:
    """(width, height) after a transform: shortest side at least ``min``, longest at most ``max``, multiples of ``stride``.

    The order of the three corrections and the ratio (not its root) for too large areas are the reference's.
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
    """PIL's antialiased bicubic to the size of :func:`resized`."""
    return to_rgb(image).resize(resized(image.size, rule), Image.Resampling.BICUBIC)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB picture → ``[3, H, W]`` float32 in −1…1."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)) / 255
    return ((pixels - 0.5) / 0.5).permute(2, 0, 1)


def to_image(pixels: Tensor) -> Image.Image:
    """``[3, H, W]`` about −1…1 → picture; clamped, then truncated to 8 bits as the reference does."""
    array = ((pixels.float().cpu() * 0.5 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).contiguous().numpy())

"""ComfyUI's IMAGE, LATENT and MASK ↔ :class:`Picture` and arrays."""

from __future__ import annotations

from typing import Any

import comfy.latent_formats
import numpy as np
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image
from torch import Tensor

from ..model_loader.loader import UnifiedModel
from ..strokes.errors import StrokesError
from ..strokes.process.pictures import Picture, picture_from, to_rgb
from ..strokes.process.trajectory import Trajectory

# Key of a LATENT beside "samples": the hash of its autoencoder. Other nodes copy the dictionary, and so hand it on.
CODEC = "strokes_codec"
# A LATENT on a wire is unscaled, by FLUX's scale and shift for every model.
FLUX = comfy.latent_formats.Flux()
# Differences below this many of 255 levels are the autoencoder's, not a change.
CHANGE = 24


def image_from(tensor: Tensor, what: str = "image") -> Image.Image:
    """An IMAGE ``[1, H, W, C]`` (or ``[H, W, C]``), 1 to 4 channels, as an RGB picture; values are clamped to 0…1.

    Raises StrokesError naming the numbers for a batch of several, no pixels, other channels or NaNs.
    """
    shape = list(tensor.shape)
    if tensor.ndim == 4 and shape[0] != 1:
        raise StrokesError(f"{what}: a batch of {shape[0]} pictures; give one (Image From Batch picks it)")
    pixels = tensor[0] if tensor.ndim == 4 else tensor
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or not pixels.numel():
        raise StrokesError(f"{what}: the shape is {shape}; [1, height, width, 1 to 4 channels] was expected")
    values = pixels.detach().cpu().float()
    if pixels.dtype == torch.uint8:
        values = values / 255
    if not values.isfinite().all():
        raise StrokesError(f"{what}: the picture holds NaN or infinite values; the node it comes from failed")
    array = (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[array.shape[2]]
    return to_rgb(Image.fromarray(array[:, :, 0] if mode == "L" else array, mode))


def image_to(image: Image.Image) -> Tensor:
    """An RGB picture as an IMAGE ``[1, H, W, 3]``, float32 in 0…1."""
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255)[None]


def mask_from(mask: Tensor) -> np.ndarray:
    """A MASK ``[1, H, W]`` (or ``[H, W]``) as an array; raises StrokesError for a batch, other shapes or NaNs."""
    values = mask.detach().cpu().float()
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or not values.numel():
        raise StrokesError(f"mask: the shape is {list(mask.shape)}; one mask [1, height, width] was expected")
    if not values.isfinite().all():
        raise StrokesError("mask: it holds NaN or infinite values; the node it comes from failed")
    return values.numpy()


def latent_from(latent: dict[str, Any], model: UnifiedModel) -> Picture:
    """A LATENT ``[1, C, h, w]`` decoded by the model. Raises StrokesError for another autoencoder's, a batch or NaNs.

    One of unknown origin is taken for FLUX's.
    """
    samples, codec = latent["samples"], latent.get(CODEC)
    name, own = model.painter.profile.name, model.painter.latent_format
    if codec is None and own.name != "flux":
        raise StrokesError(f"latent: it is not from {name}'s own autoencoder; decode it and connect the IMAGE instead")
    if codec not in (None, own.codec):
        raise StrokesError(f"latent: it is from another autoencoder than {name}'s; connect the IMAGE instead")
    if samples.ndim != 4 or samples.shape[0] != 1 or samples.shape[1] != own.channels:
        raise StrokesError(f"latent: the shape is {list(samples.shape)}; one of [1, {own.channels}, h, w] was expected")
    if not samples.isfinite().all():
        raise StrokesError("latent: it holds NaN or infinite values; the node it comes from failed")
    return model.painter.decode(FLUX.process_in(samples[0].float()).cpu().numpy())


def latent_to(picture: Picture) -> Any:
    """A picture's latents as a LATENT ``[1, C, h, w]``, unscaled.

    A picture without latents, from outside any model, gives an ExecutionBlocker: nodes that need them stop with its message.
    """
    if picture.latents is None:
        return ExecutionBlocker("this picture came from outside the model and has no LATENT: encode its IMAGE instead")
    samples = FLUX.process_out(torch.from_numpy(picture.latents.copy())[None])
    return {"samples": samples, CODEC: picture.codec}


def picture_of(model: UnifiedModel, image: Tensor, size: tuple[int, int]) -> Picture:
    """An IMAGE stretched to the canvas ``size`` (width, height) and encoded by the model."""
    return model.painter.encode(picture_from(image_from(image), size))


def shown(trajectory: Trajectory) -> Picture:
    """The last picture; an empty canvas where the process ended before anything was painted."""
    return trajectory.picture or Picture(Image.new("RGB", trajectory.size, "white"))


def outputs_of(picture: Picture) -> tuple[Tensor, Any]:
    """A picture as IMAGE and LATENT."""
    return image_to(picture.image), latent_to(picture)


def changed(before: Picture | None, after: Picture) -> Tensor:
    """A MASK ``[1, H, W]``, float32: 1 where two pictures differ, everywhere where there was none of that size before."""
    if before is after:
        return torch.zeros(1, after.image.height, after.image.width)
    if before is None or before.image.size != after.image.size:
        return torch.ones(1, after.image.height, after.image.width)
    difference = (image_to(before.image) - image_to(after.image)).abs().amax(dim=-1)
    return (difference * 255 > CHANGE).float()

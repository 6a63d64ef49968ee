"""Pictures of the canvas, and images from outside that become one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from ..errors import StrokesError


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of the canvas.

    ``latents`` (float32, the autoencoder's scaled latents ``[C, h, w]``) are there when a model painted it; ``codec`` names
    the autoencoder they belong to. A picture that someone outside the model changed has none and is encoded anew.
    """

    image: Image.Image
    latents: np.ndarray | None = None
    codec: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the size, pixels, latents and codec."""
        h = hashlib.sha256(f"{self.image.mode}{self.image.size}{self.codec}".encode())
        h.update(self.image.tobytes())
        if self.latents is not None:
            h.update(np.ascontiguousarray(self.latents).tobytes())
        return h.hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """Transparency is pasted on white, everything else converted, as the reference does."""
    if image.mode in ("RGBA", "LA", "PA") or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.split()[3])
        return white
    return image.convert("RGB")


def picture_from(image: Image.Image | Picture, size: tuple[int, int]) -> Picture:
    """An image from outside the model as a picture of ``size``: RGB, resampled (Lanczos) where it differs."""
    if isinstance(image, Picture):
        if image.image.size == size:
            return image
        image = image.image
    image = to_rgb(image)
    return Picture(image if image.size == size else image.resize(size, Image.Resampling.LANCZOS))


def open_image(path: str) -> Image.Image:
    """A picture file, fully read. Raises :class:`StrokesError` where it is none or truncated."""
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(image)
    except FileNotFoundError:
        raise StrokesError(f"no picture at {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StrokesError(f"{path} is not a picture that can be read ({error})") from None

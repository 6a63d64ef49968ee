"""Pictures of the canvas, and images from outside that become one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import StrokesError
from ..files import check_regular

# Formats that are opened. Pillow knows others that start programs (PostScript) or are no pictures to paint on.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000


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


def open_image(path: str | Path) -> Image.Image:
    """A picture file as an upright RGB image, fully read; of an animation the first frame.

    Raises :class:`StrokesError` where it is none, truncated, too large, or has tones that do not fit 8 bits.
    """
    try:
        return upright_rgb(read_image(path), path)
    except FileNotFoundError:
        raise StrokesError(f"no picture at {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StrokesError(f"{path} is not a picture that can be read ({error})") from None


def read_image(path: str | Path) -> Image.Image:
    """A picture file of one of :data:`FORMATS`, as Pillow reads it. Raises OSError, SyntaxError, ValueError or
    DecompressionBombError where it is none, is no regular file (a pipe would never end) or has too many pixels."""
    check_regular(Path(path))
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise OSError(f"{image.width}×{image.height}, at most {MAX_PIXELS // 10**6} megapixels are read")
        image.load()
    return image


def upright_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    """What a picture file from outside shows: turned as its EXIF data say, in RGB. Raises StrokesError that names
    ``path`` for tones that do not fit 8 bits."""
    return to_rgb(_eight_bits(ImageOps.exif_transpose(image), path))


def _eight_bits(image: Image.Image, path: str | Path) -> Image.Image:
    """An image of one channel of 16 bits (0…65535) or floats (0…1) as 8 bits; others as they are."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    tones = np.asarray(image, np.float64)
    most = 1.0 if image.mode == "F" else 65535.0
    low, high = float(tones.min()), float(tones.max())
    if not 0 <= low <= high <= most:  # also where one is no number
        raise StrokesError(
            f"{path}: its tones run from {low:g} to {high:g}, and 0 to {most:g} was expected: save it with 8 bits"
        )
    return Image.fromarray((tones * (255 / most)).round().astype(np.uint8))

"""Settings and results of a painter: how text is written and pictures are painted, what a checkpoint suits, what came out.

Nothing in this folder knows tensors, tokens or files of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from ..errors import StrokesError
from .pictures import Picture

# What a painter has read so far: an opaque value, never looked into here. Not ``object``, so that each painter can say
# which type its own states have.
State = Any

# What a model reads of a picture: the autoencoder's latents, from which it paints on, and the pixels through its vision
# tower; or the pixels alone.
PictureForm = Literal["latents+pixels", "pixels"]

# How a guided velocity is scaled back: over the whole picture, per token, or per token on the text part alone.
Renorm = Literal["global", "channel", "text_channel"]
RENORMS: tuple[Renorm, ...] = get_args(Renorm)

# Called while text is written: (text so far, tokens so far). May raise Cancelled.
OnText = Callable[[str, int], None]
# Called after each step while a picture is painted: (steps done, steps in all, preview); calling the preview decodes the
# model's present estimate of the picture. May raise Cancelled.
OnStep = Callable[[int, int, Callable[[], Image.Image]], None]


@dataclass(frozen=True)
class TextSettings:
    """How text is decoded: ``temperature`` 0 is greedy, ``top_p`` 1 keeps every token, ``max_tokens`` ends it."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512


@dataclass(frozen=True, kw_only=True)
class TextOverrides:
    """Text settings that a caller gives, field by field; None is *auto*: what the profile says."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None

    def over(self, base: TextSettings) -> TextSettings:
        """``base`` with everything that is given."""
        return replace(base, **_given(self))


@dataclass(frozen=True, kw_only=True)
class PaintSettings:
    """How a picture is sampled: flow steps, and guidance away from the text-free and the image-free branch.

    ``steps`` are model calls of the main branch (BAGEL's "timesteps" less one). Guidance scales of 1 are off; guidance acts
    at times ``lo < t ≤ hi`` of ``interval``, t from 1 (noise) to 0 (picture). ``renorm_min`` is the least factor that
    ``renorm`` scales with, ``shift`` above 1 gives more steps to early times, ``extrapolate`` predicts two of three calls
    after the fifth from those before.
    """

    steps: int = 49
    text_guidance: float = 4.0
    image_guidance: float = 1.0
    interval: tuple[float, float] = (0.4, 1.0)
    renorm: Renorm = "global"
    renorm_min: float = 0.0
    shift: float = 3.0
    extrapolate: bool = False


@dataclass(frozen=True, kw_only=True)
class PaintOverrides:
    """Paint settings that a caller gives, field by field; None is *auto*: what the profile says for a first picture or an
    edit, whichever the stage paints."""

    steps: int | None = None
    text_guidance: float | None = None
    image_guidance: float | None = None
    interval: tuple[float, float] | None = None
    renorm: Renorm | None = None
    renorm_min: float | None = None
    shift: float | None = None
    extrapolate: bool | None = None

    def over(self, base: PaintSettings) -> PaintSettings:
        """``base`` with everything that is given."""
        return replace(base, **_given(self))


def _given(overrides: TextOverrides | PaintOverrides) -> dict[str, Any]:
    return {name: value for name, value in vars(overrides).items() if value is not None}


# Shared, as both are values: everything *auto*.
AUTO_TEXT, AUTO_PAINT = TextOverrides(), PaintOverrides()


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The defaults of a checkpoint, from its dialect and the ``strokes`` key of its config.json: its name, and what stands
    behind every *auto*.

    ``sees`` says whether it can look at pictures; without, it has no verdict on one. ``first`` paints where there is no
    picture yet, ``edit`` where there is one. Sizes are (width, height) in pixels; sides must be multiples of ``multiple``
    and at most ``max_side``.
    """

    name: str
    size: tuple[int, int] = (1024, 1024)
    multiple: int = 16
    max_side: int = 1024
    rounds: int = 4
    max_text_tokens: int = 2048
    sees: bool = True
    first: PaintSettings = field(default_factory=PaintSettings)
    edit: PaintSettings = field(
        default_factory=lambda: PaintSettings(image_guidance=2.0, interval=(0.0, 1.0), renorm="text_channel")
    )
    text: TextSettings = field(default_factory=TextSettings)

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise StrokesError where the model cannot paint a canvas of ``size`` (width, height)."""
        if any(side < 1 or side % self.multiple or side > self.max_side for side in size):
            raise StrokesError(
                f"canvas {size[0]}×{size[1]}: {self.name} needs sides that are multiples of {self.multiple}, "
                f"at most {self.max_side}"
            )

    def size_for(self, image: Image.Image | Picture) -> tuple[int, int]:
        """The canvas size nearest to an image's: its proportions, within ``max_side``, sides rounded to the multiple."""
        sides = image.image.size if isinstance(image, Picture) else image.size
        scale = min(1.0, self.max_side / max(sides))
        most = self.max_side // self.multiple
        width, height = (min(most, max(1, round(side * scale / self.multiple))) * self.multiple for side in sides)
        return width, height


@dataclass(frozen=True)
class Written:
    """Text a model wrote, its number of tokens, and whether it ``ended``, at its end token or a stop string, not at the
    token limit; ``stopped`` where at a stop string."""

    text: str
    tokens: int
    ended: bool
    stopped: bool = False


@dataclass(frozen=True)
class Scored:
    """Natural log-probabilities of given answers, in their order, and the ``rows`` that the network ran for them."""

    log_probabilities: tuple[float, ...]
    rows: int


@dataclass(frozen=True, eq=False)
class Preserve:
    """Where a ``picture`` is repainted: ``repaint``, bool ``[rows, columns]`` of its tokens, each ``multiple`` pixels square,
    is True. The latents of all other tokens stay bit for bit."""

    picture: Picture
    repaint: np.ndarray


@dataclass(frozen=True)
class Painted:
    """A picture that a model painted, and the model calls it took, all guidance branches counted."""

    picture: Picture
    calls: int


@dataclass(frozen=True, kw_only=True)
class LatentFormat:
    """The latents of a painter's autoencoder: ``[channels, h, w]``, scaled as ``scale · (sample − shift)``.

    ``codec`` is the autoencoder's hash, as in :attr:`Picture.codec`. ``name`` is "flux" where the latents are FLUX's, which
    other programs know as well, else the hash.
    """

    name: str
    codec: str
    channels: int
    scale: float
    shift: float

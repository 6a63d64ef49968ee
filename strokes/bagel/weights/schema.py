"""The JSON files of a model folder as typed values with ranges: ``config.json``, ``llm_config.json``, ``vit_config.json``.

Only what the engine reads is described; other keys are passed over. An error names the file, the key, the value and what is
allowed. Numbers written as text, null in place of a number, NaN and infinities are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from ...errors import StrokesError
from ...process.settings import PaintSettings, Profile, Renorm, TextSettings
from ..network.config import RELEASED_VIT_RULE, BagelConfig, ResizeRule

# A JSON array is a list, which a strict tuple would refuse.
Pair = Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], Annotated[int, Field(ge=1, le=65536)]], Strict(False)]
Time = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[tuple[Time, Time], Strict(False)]
Side = Annotated[int, Field(ge=1, le=65536)]
Guidance = Annotated[float, Field(ge=0, le=100)]
TokenCount = Annotated[int, Field(ge=1, le=131072)]


class Part(BaseModel):
    """An object of a JSON file."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, frozen=True)


class RopeParameters(Part):
    """``rope_parameters`` of ``llm_config.json``, where transformers 5 writes the base of the rotation."""

    rope_theta: float | None = Field(default=None, ge=1, le=1e12)


class LlmFile(Part):
    """``llm_config.json``: of the decoder, what no tensor's shape tells. Other activations are not computed."""

    rope_theta: float | None = Field(default=None, ge=1, le=1e12)
    rope_parameters: RopeParameters | None = None
    rms_norm_eps: float = Field(default=1e-6, gt=0, le=0.1)
    hidden_act: Literal["silu"] = "silu"


class VitFile(Part):
    """``vit_config.json``: of the vision model, what no tensor's shape tells."""

    num_attention_heads: int = Field(default=16, ge=1, le=1024)
    num_channels: int = Field(default=3, ge=3, le=3)
    layer_norm_eps: float = Field(default=1e-6, gt=0, le=0.1)
    hidden_act: Literal["gelu_pytorch_tanh"] = "gelu_pytorch_tanh"


class AutoencoderPart(Part):
    """``vae_config`` of ``config.json``."""

    downsample: Literal[1, 2, 4, 8, 16, 32] = 8
    scale_factor: float | None = Field(default=None, gt=0, le=1000)
    shift_factor: float | None = Field(default=None, ge=-1000, le=1000)


class PaintPart(Part):
    """Settings of a picture: :class:`strokes.process.settings.PaintSettings`, those that are given."""

    steps: int = Field(default=49, ge=1, le=1000)
    text_guidance: Guidance = 4.0
    image_guidance: Guidance = 1.0
    interval: Interval = (0.4, 1.0)
    renorm: Renorm = "global"
    renorm_min: float = Field(default=0.0, ge=0, le=1)
    shift: float = Field(default=3.0, gt=0, le=100)
    extrapolate: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> PaintPart:
        if self.interval[0] > self.interval[1]:
            raise ValueError("its interval should begin before it ends")
        return self


class TextPart(Part):
    """Settings of a text: :class:`strokes.process.settings.TextSettings`, those that are given."""

    temperature: float = Field(default=0.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: TokenCount = 512


class ResizePart(Part):
    """``vit_transform``: :class:`..network.config.ResizeRule`."""

    max: Side
    min: Side
    stride: Side
    max_pixels: int = Field(default=RELEASED_VIT_RULE.max_pixels, ge=1, le=2**40)

    @model_validator(mode="after")
    def _ordered(self) -> ResizePart:
        if not self.stride <= self.min <= self.max:
            raise ValueError("it should have stride ≤ min ≤ max")
        return self


class ProfilePart(Part):
    """``strokes`` of ``config.json``: :class:`strokes.process.settings.Profile`, what is given of it."""

    name: str | None = Field(default=None, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
    dialect: str | None = Field(default=None, min_length=1, max_length=100, pattern=r"^[\w.-]+$")
    size: Pair | None = None
    multiple: Side | None = None
    max_side: Side | None = None
    rounds: int = Field(default=4, ge=1, le=32)
    max_text_tokens: TokenCount = 2048
    first: PaintPart = PaintPart()
    edit: PaintPart = PaintPart()
    text: TextPart = TextPart()
    vit_transform: ResizePart | None = None


class ConfigFile(Part):
    """``config.json``."""

    latent_patch_size: int = Field(default=2, ge=1, le=16)
    vae_config: AutoencoderPart | None = None
    strokes: ProfilePart = ProfilePart()


PartType = TypeVar("PartType", bound=Part)


def checked(kind: type[PartType], found: Mapping[str, Any], where: str) -> PartType:
    """``found`` as a value of ``kind``. Raises :class:`StrokesError`: ``where``, key, value, and what is allowed there."""
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise StrokesError(f"{where}: '{key}' is missing") from None
        allowed = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        raise StrokesError(
            f"{where}: '{key}' is {_shown(first['input'])}; {allowed[:1].lower()}{allowed[1:]}"
        ) from None


def _shown(value: Any) -> str:
    """A value of a JSON file in a message: one short line."""
    text = (
        "a list"
        if isinstance(value, list) and len(value) > 4
        else "an object"
        if isinstance(value, dict)
        else ascii(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}…"


def sizes_of(file: LlmFile | VitFile | ConfigFile) -> dict[str, Any]:
    """What :func:`..network.config.infer_config` reads of a file."""
    return file.model_dump(exclude={"strokes"}, exclude_none=True)


def profile_of(given: ProfilePart, name: str, config: BagelConfig, where: str) -> Profile:
    """The profile that ``given`` makes, with BAGEL's defaults for what it leaves out; ``name`` where it gives none.

    Raises :class:`StrokesError` where the network cannot paint what it promises.
    """
    token, most = config.token_pixels, config.max_pixels_per_side
    multiple, side = given.multiple or token, given.max_side or most
    size = given.size or (side, side)
    allowed = {
        "multiple": (multiple, multiple % token == 0, f"a multiple of {token}, the pixels of a latent token"),
        "max_side": (side, side <= most, f"at most {most}, the side of the network's position table"),
        "size": (
            list(size),
            all(s <= side and s % multiple == 0 for s in size),
            f"multiples of {multiple} up to {side}",
        ),
    }
    for key, (value, fits, what) in allowed.items():
        if not fits:
            raise StrokesError(f"{where}: 'strokes.{key}' is {value}; it should be {what}")
    base = Profile(name=name)
    return Profile(
        name=given.name or name,
        size=size,
        multiple=multiple,
        max_side=side,
        rounds=given.rounds,
        max_text_tokens=given.max_text_tokens,
        sees=config.vision is not None,
        first=PaintSettings(**{**vars(base.first), **_given(given.first)}),
        edit=PaintSettings(**{**vars(base.edit), **_given(given.edit)}),
        text=TextSettings(**{**vars(base.text), **_given(given.text)}),
    )


def _given(part: Part) -> dict[str, Any]:
    return part.model_dump(exclude_unset=True)


def vit_rule_of(given: ProfilePart, config: BagelConfig, where: str) -> ResizeRule:
    """The transform of pictures for the vision model; where none is given, BAGEL's within the vision model's table.

    Raises :class:`StrokesError` where its pictures would not fit the vision model's patches.
    """
    part, vision = given.vit_transform, config.vision
    if vision is None:
        return RELEASED_VIT_RULE
    patch, most = vision.patch_size, vision.patch_size * vision.patches_per_side
    if part is None:
        released = RELEASED_VIT_RULE
        return ResizeRule(min(released.max, most), min(released.min, most), patch, released.max_pixels)
    if part.stride % patch or part.max > most:
        raise StrokesError(
            f"{where}: 'strokes.vit_transform' has stride {part.stride} and max {part.max}; the vision model needs multiples "
            f"of {patch} up to {most}"
        )
    return ResizeRule(**part.model_dump())

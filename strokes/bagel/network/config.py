"""Sizes of the network and rules of its image transforms, read off the tensors and JSON files of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from ...errors import StrokesError
from ...files import Shapes


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Sizes of the Qwen2-shaped decoder; both experts have the same. Names as in transformers' configurations."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Sizes of the SigLIP-shaped vision transformer. Names as in transformers' configurations.

    ``num_hidden_layers`` counts the layers that the checkpoint holds: 26 in BAGEL-7B, whose file says 27.
    ``patches_per_side`` is the side of the position table.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    patch_size: int
    patches_per_side: int
    num_channels: int = 3
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True)
class ResizeRule:
    """Rule of an image transform, in pixels; :func:`strokes.bagel.images.resized` applies it.

    Longest side at most ``max``, shortest at least ``min``, both multiples of ``stride``, area at most ``max_pixels``.
    """

    max: int
    min: int
    stride: int
    max_pixels: int = 14 * 14 * 9 * 1024


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids of the four markers: ``bos`` and ``eos`` stand around every text, the other two around every image."""

    bos: int
    eos: int
    start_of_image: int
    end_of_image: int


@dataclass(frozen=True, kw_only=True)
class BagelConfig:
    """Sizes of the whole network; ``vision`` is None for a checkpoint without vision model.

    A latent token is a square of ``latent_patch_size`` cells of the autoencoder, a cell ``vae_downsample`` pixels wide;
    an image has at most ``max_latent_size`` tokens a side.
    """

    language: LanguageConfig
    vision: VisionConfig | None
    latent_patch_size: int
    latent_channels: int
    max_latent_size: int
    vae_downsample: int = 8

    @property
    def token_pixels(self) -> int:
        """Side of the square that one latent token covers, in pixels."""
        return self.latent_patch_size * self.vae_downsample

    @property
    def token_dim(self) -> int:
        """Numbers in one latent token."""
        return self.latent_patch_size**2 * self.latent_channels

    @property
    def max_pixels_per_side(self) -> int:
        """The longest side of an image that can be painted, in pixels."""
        return self.max_latent_size * self.token_pixels


# Image transforms of the published BAGEL-7B-MoT: its files leave them to the reference code. Source: its inferencer.
RELEASED_VAE_RULE = ResizeRule(max=1024, min=512, stride=16)
RELEASED_VIT_RULE = ResizeRule(max=980, min=224, stride=14)

BAGEL_7B = BagelConfig(
    language=LanguageConfig(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        head_dim=128,
    ),
    vision=VisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=26,
        num_attention_heads=16,
        patch_size=14,
        patches_per_side=70,
    ),
    latent_patch_size=2,
    latent_channels=16,
    max_latent_size=64,
)


def _shape(shapes: Shapes, key: str, rank: int = 2) -> tuple[int, ...]:
    """The shape of a tensor. Raises :class:`StrokesError` where it is missing or has another rank."""
    if key not in shapes:
        raise StrokesError(f"the weights hold no tensor '{key}': is this a BAGEL checkpoint?")
    if len(shapes[key]) != rank:
        raise StrokesError(f"'{key}' has shape {list(shapes[key])}; {rank} dimensions were expected")
    return shapes[key]


def _count_layers(shapes: Shapes, pattern: str) -> int:
    """The number of layers, whose number is the one group of ``pattern``; 0 where no key matches.

    Raises :class:`StrokesError` where the numbers are not 0, 1, 2 … without a gap.
    """
    found = {int(m.group(1)): key for key in shapes if (m := re.match(pattern, key))}
    missing = next(number for number in range(len(found) + 1) if number not in found)
    if missing < len(found):
        last = max(found)
        raise StrokesError(f"the weights hold '{found[last]}' but no tensor of layer {missing}: download them again")
    return len(found)


def _divided(number: int, by: int, what: str) -> int:
    """``number / by``. Raises :class:`StrokesError` naming ``what`` where that is no whole number above 0."""
    if by < 1 or number < 1 or number % by:
        raise StrokesError(
            f"{what}: {number} cannot be divided by {by}; are these weights and configurations one model's?"
        )
    return number // by


def _side(rows: int, key: str) -> int:
    """The side of a square of ``rows`` rows or pixels. Raises :class:`StrokesError` where there is none."""
    side = isqrt(rows)
    if side * side != rows:
        raise StrokesError(f"'{key}' is of {rows} rows or pixels; a square number was expected")
    return side


def infer_config(
    shapes: Shapes, llm: Mapping[str, Any], vit: Mapping[str, Any], bagel: Mapping[str, Any]
) -> BagelConfig:
    """Sizes of a checkpoint from the shapes of its tensors; from its three JSON files only what no shape tells.

    Tensors win, because a fine-tune may have more embedding rows than its configuration says, and the published
    ``max_latent_size`` is outdated. ``vision`` is None where there are no tensors of a vision model. Raises
    :class:`StrokesError` naming the tensor that is missing or misshapen, a gap in the layers, and sizes that do not agree.
    """
    layer = "language_model.model.layers.0"
    vocab, hidden = _shape(shapes, "language_model.model.embed_tokens.weight")
    head_dim = _shape(shapes, f"{layer}.self_attn.q_norm.weight", 1)[0]
    q_rows = _shape(shapes, f"{layer}.self_attn.q_proj.weight")[0]
    k_rows = _shape(shapes, f"{layer}.self_attn.k_proj.weight")[0]
    heads = _divided(q_rows, head_dim, "rows of q_proj by the head's size")
    kv_heads = _divided(k_rows, head_dim, "rows of k_proj by the head's size")
    _divided(heads, kv_heads, "query heads by key heads")
    _divided(head_dim, 2, "the head's size by its two halves")
    rope = llm.get("rope_theta") or (llm.get("rope_parameters") or {}).get("rope_theta") or 1e6
    language = LanguageConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=_shape(shapes, f"{layer}.mlp.gate_proj.weight")[0],
        num_hidden_layers=_count_layers(shapes, r"language_model\.model\.layers\.([0-9]{1,9})\."),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        rope_theta=float(rope),
        rms_norm_eps=float(llm.get("rms_norm_eps", 1e-6)),
    )
    patch = int(bagel.get("latent_patch_size", 2))
    token = _shape(shapes, "vae2llm.weight")[1]
    return BagelConfig(
        language=language,
        vision=_infer_vision(shapes, vit),
        latent_patch_size=patch,
        latent_channels=_divided(token, patch**2, "numbers of a latent token by its cells (latent_patch_size²)"),
        max_latent_size=_side(_shape(shapes, "latent_pos_embed.pos_embed")[0], "latent_pos_embed.pos_embed"),
        vae_downsample=int((bagel.get("vae_config") or {}).get("downsample", 8)),
    )


def _infer_vision(shapes: Shapes, vit: Mapping[str, Any]) -> VisionConfig | None:
    """Sizes of the vision model; ``vit`` is ``vit_config.json``. None where it has no tensors."""
    prefix = "vit_model.vision_model."
    embedding = prefix + "embeddings.patch_embedding.weight"
    if embedding not in shapes:
        return None
    hidden, patch_numbers = _shape(shapes, embedding)
    channels = int(vit.get("num_channels", 3))
    pixels = _divided(patch_numbers, channels, "numbers of a patch by num_channels")
    heads = int(vit.get("num_attention_heads", 16))
    _divided(hidden, heads, "width of the vision model by num_attention_heads")
    table = prefix + "embeddings.position_embedding.weight"
    return VisionConfig(
        hidden_size=hidden,
        intermediate_size=_shape(shapes, prefix + "encoder.layers.0.mlp.fc1.weight")[0],
        num_hidden_layers=_count_layers(shapes, r"vit_model\.vision_model\.encoder\.layers\.([0-9]{1,9})\."),
        num_attention_heads=heads,
        patch_size=_side(pixels, embedding),
        patches_per_side=_side(_shape(shapes, table)[0], table),
        num_channels=channels,
        layer_norm_eps=float(vit.get("layer_norm_eps", 1e-6)),
    )

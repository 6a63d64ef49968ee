"""Sizes and rules of a BAGEL-shaped checkpoint; every number comes from its files or its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from ...errors import StrokesError
from ...files import Shapes


@dataclass(frozen=True)
class LanguageConfig:
    """Qwen2-shaped decoder with two experts."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6


@dataclass(frozen=True)
class VisionConfig:
    """SigLIP-shaped vision transformer; ``num_hidden_layers`` counts the layers that run."""

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
    """Image transform: longest side at most ``max``, shortest at least ``min``, sides multiples of ``stride``."""

    max: int
    min: int
    stride: int
    max_pixels: int = 14 * 14 * 9 * 1024


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the four markers."""

    bos: int
    eos: int
    start_of_image: int
    end_of_image: int


@dataclass(frozen=True)
class BagelConfig:
    """Everything needed to build the network; ``vision`` is None for a checkpoint trained without a ViT."""

    language: LanguageConfig
    vision: VisionConfig | None
    latent_patch_size: int
    latent_channels: int
    max_latent_size: int
    vae_downsample: int = 8

    @property
    def token_pixels(self) -> int:
        """Side in pixels of the square that one latent token covers."""
        return self.latent_patch_size * self.vae_downsample

    @property
    def token_dim(self) -> int:
        """Numbers in one latent token."""
        return self.latent_patch_size**2 * self.latent_channels

    @property
    def max_pixels_per_side(self) -> int:
        return self.max_latent_size * self.token_pixels


# The published BAGEL-7B-MoT: what its config.json leaves to the reference code.
RELEASED_VAE_RULE = ResizeRule(max=1024, min=512, stride=16)
RELEASED_VIT_RULE = ResizeRule(max=980, min=224, stride=14)

BAGEL_7B = BagelConfig(
    language=LanguageConfig(152064, 3584, 18944, 28, 28, 4, 128),
    vision=VisionConfig(1152, 4304, 26, 16, 14, 70),
    latent_patch_size=2,
    latent_channels=16,
    max_latent_size=64,
)


def _shape(shapes: Shapes, key: str, rank: int = 2) -> tuple[int, ...]:
    if key not in shapes:
        raise StrokesError(f"the weights hold no tensor '{key}': is this a BAGEL checkpoint?")
    if len(shapes[key]) != rank:
        raise StrokesError(f"'{key}' has shape {list(shapes[key])}; {rank} dimensions were expected")
    return shapes[key]


def _count_layers(shapes: Shapes, pattern: str) -> int:
    found = {int(m.group(1)) for key in shapes if (m := re.match(pattern, key))}
    return max(found) + 1 if found else 0


def _square(rows: int, key: str) -> int:
    side = isqrt(rows)
    if side * side != rows:
        raise StrokesError(f"'{key}' has {rows} rows; a square number was expected")
    return side


def infer_config(
    shapes: Shapes, llm: Mapping[str, Any], vit: Mapping[str, Any], bagel: Mapping[str, Any]
) -> BagelConfig:
    """Read sizes off the tensors, and off the three JSON files only what no tensor tells.

    A fine-tune may have more embedding rows than its configuration says, and the published ``max_latent_size`` can
    be outdated: tensors win. A checkpoint without ViT tensors gives ``vision=None``.
    """
    vocab, hidden = _shape(shapes, "language_model.model.embed_tokens.weight")
    head_dim = _shape(shapes, "language_model.model.layers.0.self_attn.q_norm.weight", 1)[0]
    q_rows = _shape(shapes, "language_model.model.layers.0.self_attn.q_proj.weight")[0]
    k_rows = _shape(shapes, "language_model.model.layers.0.self_attn.k_proj.weight")[0]
    rope = llm.get("rope_theta") or (llm.get("rope_parameters") or {}).get("rope_theta") or 1e6
    language = LanguageConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=_shape(shapes, "language_model.model.layers.0.mlp.gate_proj.weight")[0],
        num_hidden_layers=_count_layers(shapes, r"language_model\.model\.layers\.(\d+)\."),
        num_attention_heads=q_rows // head_dim,
        num_key_value_heads=k_rows // head_dim,
        head_dim=head_dim,
        rope_theta=float(rope),
        rms_norm_eps=float(llm.get("rms_norm_eps", 1e-6)),
    )
    patch = int(bagel.get("latent_patch_size", 2))
    return BagelConfig(
        language=language,
        vision=_infer_vision(shapes, vit),
        latent_patch_size=patch,
        latent_channels=_shape(shapes, "vae2llm.weight")[1] // patch**2,
        max_latent_size=_square(_shape(shapes, "latent_pos_embed.pos_embed")[0], "latent_pos_embed.pos_embed"),
        vae_downsample=int((bagel.get("vae_config") or {}).get("downsample", 8)),
    )


def _infer_vision(shapes: Shapes, vit: Mapping[str, Any]) -> VisionConfig | None:
    prefix = "vit_model.vision_model."
    embedding = prefix + "embeddings.patch_embedding.weight"
    if embedding not in shapes:
        return None
    hidden, patch_numbers = _shape(shapes, embedding)
    channels = int(vit.get("num_channels", 3))
    table = prefix + "embeddings.position_embedding.weight"
    return VisionConfig(
        hidden_size=hidden,
        intermediate_size=_shape(shapes, prefix + "encoder.layers.0.mlp.fc1.weight")[0],
        num_hidden_layers=_count_layers(shapes, r"vit_model\.vision_model\.encoder\.layers\.(\d+)\."),
        num_attention_heads=int(vit.get("num_attention_heads", 16)),
        patch_size=isqrt(patch_numbers // channels),
        patches_per_side=_square(_shape(shapes, table)[0], table),
        num_channels=channels,
        layer_norm_eps=float(vit.get("layer_norm_eps", 1e-6)),
    )

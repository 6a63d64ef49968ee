"""The mixture-of-transformers decoder: two experts, one attention.

Knows nothing of caches, masks or packing: the caller hands in ``attend``. Rows of the two experts travel apart and meet
in the attention, **understanding expert first**; inside an image segment all rows share one position and see each
other, so their order is free. Axes: B branches, N rows, D hidden, H query heads, K key/value heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .config import LanguageConfig

# (layer, q [B,N,H,d], k [B,N,K,d], v [B,N,K,d]) -> [B,N,H,d]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``[B, N, 1, d/2]`` in float32 for integer positions ``[B, N]``; angle ``pos * theta^(-2j/d)``."""
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.float()[..., None, None] * theta**-exponent
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split (NeoX) rotation of ``x [B, N, heads, d]``, computed in float32."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


# Rows of the understanding and of the generation expert, ``[B, N, D]`` each; either may have no rows.
Rows = tuple[Tensor, Tensor]
SUFFIXES = ("", "_moe_gen")


def _of(module: nn.Module, rows: Tensor) -> Tensor:
    """``module(rows)``, and no call where an expert has no rows: its weights may have to be streamed in first."""
    return module(rows) if rows.shape[1] else rows


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: LanguageConfig, operations: Any, **where: Any):
        super().__init__()
        dim, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = operations.Linear(dim, inner, bias=False, **where)
        self.up_proj = operations.Linear(dim, inner, bias=False, **where)
        self.down_proj = operations.Linear(inner, dim, bias=False, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class SelfAttention(nn.Module):
    """Projections and head norms per expert; the attention itself is shared and supplied by the caller."""

    def __init__(self, config: LanguageConfig, operations: Any, **where: Any):
        super().__init__()
        dim, d = config.hidden_size, config.head_dim
        self.d = d
        q, kv = config.num_attention_heads * d, config.num_key_value_heads * d
        for suffix in ("", "_moe_gen"):
            self.add_module("q_proj" + suffix, operations.Linear(dim, q, bias=True, **where))
            self.add_module("k_proj" + suffix, operations.Linear(dim, kv, bias=True, **where))
            self.add_module("v_proj" + suffix, operations.Linear(dim, kv, bias=True, **where))
            self.add_module("o_proj" + suffix, operations.Linear(q, dim, bias=False, **where))
            self.add_module("q_norm" + suffix, operations.RMSNorm(d, eps=config.rms_norm_eps, **where))
            self.add_module("k_norm" + suffix, operations.RMSNorm(d, eps=config.rms_norm_eps, **where))

    def _heads(self, rows: Tensor, name: str, suffix: str) -> Tensor:
        out = self.get_submodule(f"{name}_proj{suffix}")(rows).unflatten(-1, (-1, self.d))
        return out if name == "v" else self.get_submodule(f"{name}_norm{suffix}")(out)

    def forward(self, x: Rows, rope: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Rows:
        present = [(rows, suffix) for rows, suffix in zip(x, SUFFIXES, strict=True) if rows.shape[1]]
        q, k, v = (torch.cat([self._heads(rows, name, suffix) for rows, suffix in present], dim=1) for name in "qkv")
        out = attend(layer, rotate(q, *rope), rotate(k, *rope), v).flatten(2)
        text, gen = out.split((x[0].shape[1], x[1].shape[1]), dim=1)
        return _of(self.get_submodule("o_proj"), text), _of(self.get_submodule("o_proj_moe_gen"), gen)


class Layer(nn.Module):
    def __init__(self, config: LanguageConfig, operations: Any, **where: Any):
        super().__init__()
        dim, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = SelfAttention(config, operations, **where)
        self.mlp = MLP(config, operations, **where)
        self.mlp_moe_gen = MLP(config, operations, **where)
        self.input_layernorm = operations.RMSNorm(dim, eps=eps, **where)
        self.input_layernorm_moe_gen = operations.RMSNorm(dim, eps=eps, **where)
        self.post_attention_layernorm = operations.RMSNorm(dim, eps=eps, **where)
        self.post_attention_layernorm_moe_gen = operations.RMSNorm(dim, eps=eps, **where)

    def forward(self, x: Rows, rope: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Rows:
        text, gen = x
        a_text, a_gen = self.self_attn(
            (_of(self.input_layernorm, text), _of(self.input_layernorm_moe_gen, gen)), rope, layer, attend
        )
        text, gen = text + a_text, gen + a_gen
        return (
            text + _of(self.mlp, _of(self.post_attention_layernorm, text)),
            gen + _of(self.mlp_moe_gen, _of(self.post_attention_layernorm_moe_gen, gen)),
        )


class Decoder(nn.Module):
    """Embedding, layers and the two final norms (``language_model.model`` in the checkpoint)."""

    def __init__(self, config: LanguageConfig, operations: Any, **where: Any):
        super().__init__()
        self.config = config
        self.embed_tokens = operations.Embedding(config.vocab_size, config.hidden_size, **where)
        self.layers = nn.ModuleList(Layer(config, operations, **where) for _ in range(config.num_hidden_layers))
        self.norm = operations.RMSNorm(config.hidden_size, eps=config.rms_norm_eps, **where)
        self.norm_moe_gen = operations.RMSNorm(config.hidden_size, eps=config.rms_norm_eps, **where)

    def forward(self, x: Rows, positions: Tensor, attend: Attend) -> Rows:
        """Rows through all layers; the final norms are **not** applied.

        ``positions [B, N]`` are integers for the rows of both experts, understanding first.
        """
        rope = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        for index, layer in enumerate(self.layers):
            x = layer(x, rope, index, attend)
        return x


class LanguageModel(nn.Module):
    """The decoder and its untied output head."""

    def __init__(self, config: LanguageConfig, operations: Any, **where: Any):
        super().__init__()
        self.model = Decoder(config, operations, **where)
        self.lm_head = operations.Linear(config.hidden_size, config.vocab_size, bias=False, **where)

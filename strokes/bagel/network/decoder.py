"""The mixture-of-transformers decoder: two experts, one attention.

Rows of the two experts are two tensors; attention joins them, **understanding rows first**. Caches and masks are the
caller's, who hands in an :data:`Attend`.
Axes: B branches, N rows, D hidden, H query heads, K key/value heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .config import LanguageConfig
from .operations import Operations, Placement

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Attention of one layer, supplied by the caller:
# (layer, q [B,N,H,d], k [B,N,K,d], v [B,N,K,d]) -> [B,N,H,d]; q and k are normed and rotated.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``[B, N, 1, d/2]``, float32, of angles ``p·theta^(−2j/d)`` for integer positions ``p [B, N]``."""
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.float()[..., None, None] * theta**-exponent
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``x [B, N, heads, d]`` under the half-split (NeoX) rotary embedding, computed in float32."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


# Rows of the understanding and of the generation expert, ``[B, N, D]`` each; either may have no rows.
Rows = tuple[Tensor, Tensor]
# What the module names of the two experts end in.
SUFFIXES = ("", "_moe_gen")


def _apply(module: nn.Module, rows: Tensor) -> Tensor:
    """``module(rows)``; no call where an expert has no rows, because a call may stream its weights in."""
    return module(rows) if rows.shape[1] else rows


class MLP(nn.Module):
    """SwiGLU feed-forward of one expert, ``[B, N, D]`` → ``[B, N, D]``."""

    def __init__(self, config: LanguageConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        dim, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = operations.Linear(dim, inner, bias=False, **where)
        self.up_proj = operations.Linear(dim, inner, bias=False, **where)
        self.down_proj = operations.Linear(inner, dim, bias=False, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class SelfAttention(nn.Module):
    """Projections and head norms of each expert around one attention over the rows of both, supplied by the caller."""

    def __init__(self, config: LanguageConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        dim, d = config.hidden_size, config.head_dim
        self.d = d
        q, kv = config.num_attention_heads * d, config.num_key_value_heads * d
        for suffix in SUFFIXES:
            self.add_module("q_proj" + suffix, operations.Linear(dim, q, bias=True, **where))
            self.add_module("k_proj" + suffix, operations.Linear(dim, kv, bias=True, **where))
            self.add_module("v_proj" + suffix, operations.Linear(dim, kv, bias=True, **where))
            self.add_module("o_proj" + suffix, operations.Linear(q, dim, bias=False, **where))
            self.add_module("q_norm" + suffix, operations.RMSNorm(d, eps=config.rms_norm_eps, **where))
            self.add_module("k_norm" + suffix, operations.RMSNorm(d, eps=config.rms_norm_eps, **where))

    def _heads(self, rows: Tensor, name: str, suffix: str) -> Tensor:
        """One expert's queries, keys or values (``name`` q, k or v), ``[B, N, heads, d]``; q and k are normed."""
        out = self.get_submodule(f"{name}_proj{suffix}")(rows).unflatten(-1, (-1, self.d))
        return out if name == "v" else self.get_submodule(f"{name}_norm{suffix}")(out)

    def forward(self, x: Rows, rope: tuple[Tensor, Tensor], layer: int, attend: Attend) -> Rows:
        present = [(rows, suffix) for rows, suffix in zip(x, SUFFIXES, strict=True) if rows.shape[1]]
        q, k, v = (torch.cat([self._heads(rows, name, suffix) for rows, suffix in present], dim=1) for name in "qkv")
        out = attend(layer, rotate(q, *rope), rotate(k, *rope), v).flatten(2)
        text, gen = out.split((x[0].shape[1], x[1].shape[1]), dim=1)
        return _apply(self.get_submodule("o_proj"), text), _apply(self.get_submodule("o_proj_moe_gen"), gen)


class Layer(nn.Module):
    """One transformer layer: attention and feed-forward, each behind a norm and added to the rows."""

    def __init__(self, config: LanguageConfig, operations: Operations, **where: Unpack[Placement]):
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
            (_apply(self.input_layernorm, text), _apply(self.input_layernorm_moe_gen, gen)), rope, layer, attend
        )
        text, gen = text + a_text, gen + a_gen
        return (
            text + _apply(self.mlp, _apply(self.post_attention_layernorm, text)),
            gen + _apply(self.mlp_moe_gen, _apply(self.post_attention_layernorm_moe_gen, gen)),
        )


class Decoder(nn.Module):
    """Embedding, layers and the two final norms; ``language_model.model`` in the checkpoint."""

    def __init__(self, config: LanguageConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.config = config
        self.embed_tokens = operations.Embedding(config.vocab_size, config.hidden_size, **where)
        self.layers = nn.ModuleList(Layer(config, operations, **where) for _ in range(config.num_hidden_layers))
        self.norm = operations.RMSNorm(config.hidden_size, eps=config.rms_norm_eps, **where)
        self.norm_moe_gen = operations.RMSNorm(config.hidden_size, eps=config.rms_norm_eps, **where)

    def forward(self, x: Rows, positions: Tensor, attend: Attend) -> Rows:
        """Hidden rows of both experts after all layers; the final norms are **not** applied.

        ``positions [B, N]``: integer rope positions of the rows of both experts, understanding rows first.
        """
        rope = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        for index, layer in enumerate(self.layers):
            x = layer(x, rope, index, attend)
        return x


class LanguageModel(nn.Module):
    """The decoder and its untied output head; ``language_model`` in the checkpoint."""

    def __init__(self, config: LanguageConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.model = Decoder(config, operations, **where)
        self.lm_head = operations.Linear(config.hidden_size, config.vocab_size, bias=False, **where)

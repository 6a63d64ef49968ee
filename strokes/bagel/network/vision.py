"""The SigLIP-shaped vision transformer and the connector into the language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import VisionConfig
from .operations import Operations, Placement

if TYPE_CHECKING:
    from typing_extensions import Unpack


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """Patches ``[B, patches, patch²·C]`` of ``[B, C, H, W]``, row by row; inside: row, column, channel."""
    return rearrange(pixels, "b c (h p) (w q) -> b (h w) (p q c)", p=patch, q=patch)


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Images ``[B, C, H, W]`` of a ``grid`` (rows, columns) of patches: the inverse of :func:`patchify`."""
    return rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=grid[0], w=grid[1], p=patch, q=patch)


def grid_index(grid: tuple[int, int], side: int, device: torch.device | None = None) -> Tensor:
    """Row numbers ``[rows·columns]`` in a ``side × side`` position table for a ``grid`` (rows, columns).

    A smaller grid takes the top-left corner of the table.
    """
    rows = torch.arange(grid[0], device=device)
    return (rows[:, None] * side + torch.arange(grid[1], device=device)).flatten()


class VisionAttention(nn.Module):
    """Full self-attention over the patches of an image."""

    def __init__(self, config: VisionConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        dim = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = operations.Linear(dim, dim, **where)
        self.k_proj = operations.Linear(dim, dim, **where)
        self.v_proj = operations.Linear(dim, dim, **where)
        self.out_proj = operations.Linear(dim, dim, **where)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(proj(x), "b n (h d) -> b h n d", h=self.heads) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(rearrange(out, "b h n d -> b n (h d)"))


class VisionMLP(nn.Module):
    """Two linears with tanh-GELU between: the feed-forward of a layer, and the connector into the language model."""

    def __init__(self, dim: int, inner: int, out: int, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.fc1 = operations.Linear(dim, inner, **where)
        self.fc2 = operations.Linear(inner, out, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x), approximate="tanh"))


class VisionLayer(nn.Module):
    """One transformer layer with LayerNorm in front of attention and feed-forward."""

    def __init__(self, config: VisionConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = VisionAttention(config, operations, **where)
        self.layer_norm1 = operations.LayerNorm(dim, eps=eps, **where)
        self.layer_norm2 = operations.LayerNorm(dim, eps=eps, **where)
        self.mlp = VisionMLP(dim, config.intermediate_size, dim, operations, **where)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionEmbeddings(nn.Module):
    """Embedding of patches, a linear over flattened patches as in the checkpoint, and the learned position table."""

    def __init__(self, config: VisionConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.patch_embedding = operations.Linear(
            config.num_channels * config.patch_size**2, config.hidden_size, **where
        )
        self.position_embedding = operations.Embedding(config.patches_per_side**2, config.hidden_size, **where)


class VisionEncoder(nn.Module):
    """The layers; ``encoder`` in the checkpoint."""

    def __init__(self, config: VisionConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config, operations, **where) for _ in range(config.num_hidden_layers))


class VisionTransformer(nn.Module):
    """Embeddings, layers and last norm; ``vision_model`` in the checkpoint. There is no pooling head."""

    def __init__(self, config: VisionConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.embeddings = VisionEmbeddings(config, operations, **where)
        self.encoder = VisionEncoder(config, operations, **where)
        self.post_layernorm = operations.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, **where)


class VisionModel(nn.Module):
    """The vision model; ``vit_model`` in the checkpoint."""

    def __init__(self, config: VisionConfig, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.config = config
        self.vision_model = VisionTransformer(config, operations, **where)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[B, patches, hidden]`` after the last norm, and row numbers ``[patches]`` in position tables.

        ``pixels [B, 3, H, W]`` are in −1…1, their sides multiples of the patch.
        """
        vit, patch = self.vision_model, self.config.patch_size
        index = grid_index(
            (pixels.shape[2] // patch, pixels.shape[3] // patch), self.config.patches_per_side, pixels.device
        )
        x = vit.embeddings.patch_embedding(patchify(pixels, patch)) + vit.embeddings.position_embedding(index)
        for layer in vit.encoder.layers:
            x = layer(x)
        return vit.post_layernorm(x), index

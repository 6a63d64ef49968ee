"""The whole network: decoder, vision model, connector, and the embeddings of latents and time.

Knows nothing of files, tokenizers, caches or sampling. Every layer comes from an ``operations`` namespace
(``torch.nn`` by default; ComfyUI's ``comfy.ops`` brings weight streaming and quantised weights).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .config import BagelConfig
from .decoder import Attend, LanguageModel, Rows
from .vision import VisionMLP, VisionModel, grid_index


def time_features(t: Tensor, size: int = 256) -> Tensor:
    """``[...]`` times in 0…1 → ``[..., size]``: cosines then sines of ``t·10000^(−i/(size/2))``."""
    half = size // 2
    frequencies = torch.exp(-math.log(10000.0) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    angles = t.float()[..., None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def position_table(side: int, dim: int) -> Tensor:
    """Fixed 2-D table ``[side*side, dim]``: first half encodes the column, second half the row; each half sines then
    cosines of ``p·10000^(−j/(dim/4))``."""
    rates = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    line = torch.cat((angles.sin(), angles.cos()), dim=-1)
    column = line[None].expand(side, side, -1)
    row = line[:, None].expand(side, side, -1)
    return torch.cat((column, row), dim=-1).reshape(side * side, dim).float()


class TimeEmbedder(nn.Module):
    """Two linear layers with SiLU over :func:`time_features`."""

    FEATURES = 256

    def __init__(self, dim: int, operations: Any, **where: Any):
        super().__init__()
        self.mlp = nn.Sequential(
            operations.Linear(self.FEATURES, dim, **where), nn.SiLU(), operations.Linear(dim, dim, **where)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(time_features(t, self.FEATURES).to(dtype))


class PositionTable(nn.Module):
    """A table that is stored in the checkpoint and never trained."""

    def __init__(self, side: int, dim: int, **where: Any):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(side * side, dim, **where), requires_grad=False)

    def forward(self, index: Tensor, like: Tensor) -> Tensor:
        return self.pos_embed.to(like.device)[index].to(like.dtype)


class Bagel(nn.Module):
    """Module names are the checkpoint's keys.

    Args:
        operations: namespace with ``Linear``, ``Embedding``, ``LayerNorm`` and ``RMSNorm``.
        device, dtype: where weights are made; ``device="meta"`` allocates nothing.
    """

    def __init__(
        self,
        config: BagelConfig,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        dim = config.language.hidden_size
        self.config = config
        self.language_model = LanguageModel(config.language, operations, **where)
        if config.vision is not None:
            self.vit_model = VisionModel(config.vision, operations, **where)
            self.connector = VisionMLP(config.vision.hidden_size, dim, dim, operations, **where)
            self.vit_pos_embed = PositionTable(config.vision.patches_per_side, dim, **where)
        self.time_embedder = TimeEmbedder(dim, operations, **where)
        self.vae2llm = operations.Linear(config.token_dim, dim, **where)
        self.llm2vae = operations.Linear(dim, config.token_dim, **where)
        self.latent_pos_embed = PositionTable(config.max_latent_size, dim, **where)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights for training from nothing, signals at about unit scale from the start.

        Matrices normal with deviation 1/√inputs (residual outputs over √(2·layers)), the velocity output zero, so that the
        first prediction is no velocity; biases zero, norms one, fixed tables computed.
        """
        residual = ("o_proj", "down_proj", "out_proj", "mlp.fc2")
        depth = (2 * self.config.language.num_hidden_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                (nn.init.zeros_ if name.endswith("bias") else nn.init.ones_)(parameter)
            elif "embed_tokens" in name:
                nn.init.normal_(parameter, std=0.5, generator=generator)
            elif "lm_head" in name or "position_embedding" in name:
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif not name.endswith("pos_embed"):
                scale = depth if any(part in name for part in residual) else 1.0
                nn.init.normal_(parameter, std=scale * parameter.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(self.llm2vae.weight)
        dim = self.config.language.hidden_size
        self.latent_pos_embed.pos_embed.data.copy_(position_table(self.config.max_latent_size, dim))
        if self.config.vision is not None:
            self.vit_pos_embed.pos_embed.data.copy_(position_table(self.config.vision.patches_per_side, dim))

    @property
    def dtype(self) -> torch.dtype:
        """Type of activations: that of the norms, which no quantisation touches."""
        return self.language_model.model.norm.weight.dtype

    @property
    def has_vision(self) -> bool:
        return self.config.vision is not None

    # Rows for the decoder

    def embed_text(self, ids: Tensor) -> Tensor:
        """Token ids of any shape → rows ``[..., D]``."""
        return self.language_model.model.embed_tokens(ids).to(self.dtype)

    def embed_latents(self, tokens: Tensor, t: Tensor, index: Tensor) -> Tensor:
        """Latent tokens ``[..., N, token_dim]`` at times ``t [..., N]`` (0 = clean) → rows ``[..., N, D]``.

        ``index [N]`` are their rows of the position table.
        """
        rows = self.vae2llm(tokens.to(self.dtype)) + self.time_embedder(t, self.dtype)
        return rows + self.latent_pos_embed(index, rows)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """Images ``[B, 3, H, W]`` in −1…1 → rows ``[B, patches, D]``."""
        features, index = self.vit_model(pixels.to(self.dtype))
        rows = self.connector(features)
        return rows + self.vit_pos_embed(index, rows)

    # Through the decoder

    def decode_rows(self, text: Tensor, gen: Tensor, positions: Tensor, attend: Attend) -> Rows:
        """Rows ``[B, N, D]`` of each expert → hidden rows of each, before the final norm; see :class:`.decoder.Decoder`."""
        return self.language_model.model((text, gen), positions, attend)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden rows of the understanding expert, before the final norm → vocabulary logits."""
        return self.language_model.lm_head(self.language_model.model.norm(hidden))

    def velocity(self, hidden: Tensor) -> Tensor:
        """Hidden rows of the generation expert, before the final norm → velocities ``[..., token_dim]``."""
        return self.llm2vae(self.language_model.model.norm_moe_gen(hidden))

    def latent_index(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        return grid_index(grid, self.config.max_latent_size, device)

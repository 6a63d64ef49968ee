"""The whole network: decoder, vision model, connector, embeddings of latents and time, and the two output heads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .config import BagelConfig
from .decoder import Attend, LanguageModel, Rows
from .operations import Operations, Placement
from .vision import VisionMLP, VisionModel, grid_index

if TYPE_CHECKING:
    from typing_extensions import Unpack


def time_features(t: Tensor, size: int = 256) -> Tensor:
    """Features ``[..., size]`` of times ``t [...]`` in 0…1: cosines, then sines, of ``t·10000^(−i/(size/2))``."""
    half = size // 2
    frequencies = torch.exp(-math.log(10000.0) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    angles = t.float()[..., None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def position_table(side: int, dim: int) -> Tensor:
    """Fixed 2-D position table ``[side·side, dim]``, float32.

    The first half of a row encodes the column, the second half the row; each half has sines, then cosines, of
    ``p·10000^(−j/(dim/4))``.
    """
    rates = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    line = torch.cat((angles.sin(), angles.cos()), dim=-1)
    column = line[None].expand(side, side, -1)
    row = line[:, None].expand(side, side, -1)
    return torch.cat((column, row), dim=-1).reshape(side * side, dim).float()


class TimeEmbedder(nn.Module):
    """Embedding ``[..., D]`` of times ``t [...]``: two linears with SiLU between over :func:`time_features`."""

    FEATURES = 256

    def __init__(self, dim: int, operations: Operations, **where: Unpack[Placement]):
        super().__init__()
        self.mlp = nn.Sequential(
            operations.Linear(self.FEATURES, dim, **where), nn.SiLU(), operations.Linear(dim, dim, **where)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(time_features(t, self.FEATURES).to(dtype))


class PositionTable(nn.Module):
    """A fixed table ``[side·side, D]`` of :func:`position_table`: stored in the checkpoint, never trained."""

    def __init__(self, side: int, dim: int, **where: Unpack[Placement]):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(side * side, dim, **where), requires_grad=False)

    def forward(self, index: Tensor, like: Tensor) -> Tensor:
        """The rows ``[N, D]`` of the table at ``index [N]``, on the device and in the type of ``like``."""
        return self.pos_embed.to(like.device)[index].to(like.dtype)


class Bagel(nn.Module):
    """BAGEL: one decoder of two experts, with the input embeddings and the output heads of text and images.

    There is no ``forward`` method, because what a row may attend to is known to the caller alone. A forward is:

    1. **Rows** ``[B, N, D]``. :meth:`embed_text` (token ids, the two markers of an image among them) and
       :meth:`embed_pixels` (patches) make rows of the understanding expert, :meth:`embed_latents` (latent tokens,
       clean or noised) those of the generation expert.
    2. **Layers**: :meth:`decode_rows`. Norms, projections and feed-forward are each expert's own. Attention is one
       over the rows of both, understanding rows first, and is computed by ``attend``, which the caller hands in.
       ``positions`` has that order too: consecutive along a text, the same for all rows of an image, markers
       included. The order of an image's rows is free, since they attend to each other;
       :class:`..engine.runner.Runner` puts both markers first.
    3. **Heads**, each with the final norm of its expert: :meth:`logits` predicts from an understanding row the token
       after it, :meth:`velocity` from a generation row the flow's velocity at its latent token.

    Four callers do this:

    * ``Runner.prefill_many``: a whole segment behind its prefix; attention is causal in a text, full in an image. It
      keeps the keys and values of all rows as a block and reads no head.
    * ``Runner.denoise_many``: markers and noised latents behind the prefix of each guidance branch. It keeps nothing;
      ``Runner.velocities`` reads :meth:`velocity`.
    * ``Runner.next_logits``: one token of text behind a prefix. It reads :meth:`logits`.
    * :func:`.packed.training_forward`: whole samples along one row axis, attention under masks. It reads
      :meth:`logits` where there is a label and :meth:`velocity` where there is a target.

    Module names are the checkpoint's keys. ``device`` and ``dtype`` are those of the weights; "meta" allocates none.
    """

    # Type of the activations where it is not that of the norms: layers that cast their weights compute in another type
    # than the file stores.
    activations: torch.dtype | None = None

    def __init__(
        self,
        config: BagelConfig,
        operations: Operations = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        where: Placement = {"device": device, "dtype": dtype}
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
        """Fill in fresh weights for training from scratch, with activations at about unit scale.

        Matrices are normal with deviation 1/√inputs, divided by √(2·layers) where they write into the residual stream.
        The velocity head is zero, so that the first prediction is no velocity. Biases are zero, norms one, fixed tables
        computed.
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
                scale = depth if any(ending in name for ending in residual) else 1.0
                nn.init.normal_(parameter, std=scale * parameter.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(self.get_parameter("llm2vae.weight"))
        dim = self.config.language.hidden_size
        self.latent_pos_embed.pos_embed.data.copy_(position_table(self.config.max_latent_size, dim))
        if self.config.vision is not None:
            self.vit_pos_embed.pos_embed.data.copy_(position_table(self.config.vision.patches_per_side, dim))

    @property
    def dtype(self) -> torch.dtype:
        """Type of the activations: :attr:`activations`, else that of the final norm."""
        return self.activations or self.language_model.model.norm.weight.dtype

    @property
    def has_vision(self) -> bool:
        """Whether there is a vision model; without one, :meth:`embed_pixels` cannot be called."""
        return self.config.vision is not None

    # Rows for the decoder

    def embed_text(self, ids: Tensor) -> Tensor:
        """Rows ``[..., D]`` of token ids ``[...]``."""
        return self.language_model.model.embed_tokens(ids).to(self.dtype)

    def embed_latents(self, tokens: Tensor, t: Tensor, index: Tensor) -> Tensor:
        """Rows ``[..., N, D]`` of latent tokens ``[..., N, token_dim]`` at times ``t [..., N]``; clean ones have 0.

        ``index [N]``: each token's row number in the position table; see :meth:`latent_index`.
        """
        rows = self.vae2llm(tokens.to(self.dtype)) + self.time_embedder(t, self.dtype)
        return rows + self.latent_pos_embed(index, rows)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """Rows ``[B, patches, D]`` of images ``[B, 3, H, W]`` in −1…1."""
        features, index = self.vit_model(pixels.to(self.dtype))
        rows = self.connector(features)
        # A position table of another type may have changed theirs.
        return (rows + self.vit_pos_embed(index, rows)).to(self.dtype)

    # Through the decoder

    def decode_rows(self, text: Tensor, gen: Tensor, positions: Tensor, attend: Attend) -> Rows:
        """Hidden rows of both experts before their final norms, of rows ``text`` and ``gen [B, N, D]``.

        ``positions [B, N]`` and ``attend`` as in :class:`.decoder.Decoder`.
        """
        return self.language_model.model((text, gen), positions, attend)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``[..., vocabulary]`` of hidden understanding rows ``[..., D]``, which are normed here."""
        return self.language_model.lm_head(self.language_model.model.norm(hidden))

    def velocity(self, hidden: Tensor) -> Tensor:
        """Velocities ``[..., token_dim]`` of hidden generation rows ``[..., D]``, which are normed here."""
        return self.llm2vae(self.language_model.model.norm_moe_gen(hidden))

    def latent_index(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """Row numbers ``[rows·columns]`` of a (rows, columns) grid of latent tokens in the position table."""
        return grid_index(grid, self.config.max_latent_size, device)

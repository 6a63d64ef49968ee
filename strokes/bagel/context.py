"""Segments, prefixes, and running one segment behind a prefix.

A prefix is a tuple of segments; the keys and values behind it are blocks, one a segment, written once and never changed.
Attention reads a prefix as the list of its blocks, so branches share what they have in common and a shorter prefix is
the same blocks, fewer of them. Axes as in :mod:`.decoder`; L layers, P prefix rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from .config import SpecialTokens
from .decoder import Attend
from .model import Bagel
from .vision import patchify

Kind = Literal["text", "latents", "pixels"]


@dataclass(frozen=True, eq=False)
class Segment:
    """One unit of prefill: token ids, clean latents ``[C, h, w]`` or pixels ``[3, H, W]`` in −1…1."""

    kind: Kind
    content: tuple[int, ...] | Tensor

    @cached_property
    def digest(self) -> bytes:
        if isinstance(self.content, Tensor):
            data = self.content.detach().cpu().float().contiguous()
            head = f"{self.kind}{tuple(data.shape)}".encode()
            return hashlib.sha256(head + data.numpy().tobytes()).digest()
        return hashlib.sha256(f"{self.kind}{self.content}".encode()).digest()

    @property
    def positions(self) -> int:
        """Rope positions the segment consumes: one a row of text with its two markers, one in all for an image."""
        return len(self.content) + 2 if self.kind == "text" else 1


@dataclass(frozen=True, eq=False)
class Prefix:
    """What came before: segments in order. ``key`` names the content of the whole chain."""

    segments: tuple[Segment, ...] = ()

    def append(self, segment: Segment) -> Prefix:
        return Prefix((*self.segments, segment))

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """One chained digest a segment: each covers everything before it."""
        out, last = [], b""
        for segment in self.segments:
            last = hashlib.sha256(last + segment.digest).digest()
            out.append(last)
        return tuple(out)

    @property
    def key(self) -> bytes:
        return self.keys[-1] if self.segments else b""

    @property
    def position(self) -> int:
        """The next rope position."""
        return sum(segment.positions for segment in self.segments)


@dataclass(frozen=True, eq=False)
class Block:
    """Keys (normed and rotated) and values ``[L, K, n, d]`` of one segment."""

    keys: Tensor
    values: Tensor

    @property
    def rows(self) -> int:
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


class Recorder:
    """Collects the keys and values of the rows that run through the decoder."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def block(self) -> Block:
        return Block(torch.stack(self.keys), torch.stack(self.values))


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """``q [H, N, d]``, ``k, v [K, P+N, d]`` → ``[N, H, d]``; scale 1/√d, grouped queries."""
    out = nn.functional.scaled_dot_product_attention(
        q[None], k[None], v[None], attn_mask=mask, enable_gqa=q.shape[0] != k.shape[0]
    )
    return out[0].transpose(0, 1)


def attend_to(past: Sequence[Sequence[Block]], causal: bool = False, recorder: Recorder | None = None) -> Attend:
    """Attention of each branch's rows to its own blocks and to themselves (up to themselves where ``causal``).

    Branches may stand behind prefixes of different length: linears run as one batch, attention branch by branch.
    """

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if recorder is not None:
            recorder.keys.append(k[0].clone())
            recorder.values.append(v[0].clone())
        rows, out = q.shape[2], []
        for i, blocks in enumerate(past):
            keys = torch.cat([*(block.keys[layer] for block in blocks), k[i]], dim=1)
            values = torch.cat([*(block.values[layer] for block in blocks), v[i]], dim=1)
            mask = None
            if causal and rows > 1:
                mask = torch.ones(rows, keys.shape[1], dtype=torch.bool, device=q.device).tril(keys.shape[1] - rows)
            out.append(attention(q[i], keys, values, mask))
        return torch.stack(out)

    return attend


class Runner:
    """A model with its marker ids: prefills segments and predicts velocities behind prefixes."""

    def __init__(self, model: Bagel, special: SpecialTokens, device: torch.device | None = None):
        """``device`` is where rows are computed; None: where the weights are. They differ where weights are streamed."""
        self.model, self.special, self._device = model, special, device

    @property
    def device(self) -> torch.device:
        return self._device or self.model.language_model.model.norm.weight.device

    def _ids(self, ids: Sequence[int]) -> Tensor:
        return self.model.embed_text(torch.tensor([list(ids)], device=self.device))

    def markers(self) -> Tensor:
        """Rows ``[1, 2, D]`` of the two image markers."""
        return self._ids((self.special.start_of_image, self.special.end_of_image))

    def _positions(self, rows: int, position: int, causal: bool) -> Tensor:
        if causal:
            return torch.arange(position, position + rows, device=self.device)[None]
        return torch.full((1, rows), position, device=self.device)

    @torch.inference_mode()
    def prefill(self, past: Sequence[Block], position: int, segment: Segment) -> tuple[Block, Tensor, Tensor]:
        """Run one whole segment behind ``past`` in one call.

        Returns its block and the hidden rows ``[n, D]`` of each expert before the final norm. Rows of an image come
        in the order start marker, end marker, image rows.
        """
        model = self.model
        gen = torch.empty(1, 0, model.config.language.hidden_size, device=self.device, dtype=model.dtype)
        causal = isinstance(segment.content, tuple)
        if isinstance(segment.content, tuple):
            text = self._ids((self.special.bos, *segment.content, self.special.eos))
        elif segment.kind == "latents":
            text, gen = self.markers(), self.embed_latents(segment.content, 0.0)
        else:
            rows = model.embed_pixels(segment.content.to(self.device)[None])
            text = torch.cat((self.markers(), rows), dim=1)
        recorder = Recorder()
        positions = self._positions(text.shape[1] + gen.shape[1], position, causal)
        hidden = model.decode_rows(text, gen, positions, attend_to([past], causal, recorder))
        return recorder.block(), hidden[0][0], hidden[1][0]

    def embed_latents(self, latents: Tensor, t: float) -> Tensor:
        """Latents ``[C, h, w]`` at time ``t`` → rows ``[1, N, D]``."""
        patch = self.model.config.latent_patch_size
        tokens = patchify(latents.to(self.device)[None], patch)
        return self._embed_tokens(tokens, (latents.shape[1] // patch, latents.shape[2] // patch), t)

    def _embed_tokens(self, tokens: Tensor, grid: tuple[int, int], t: float) -> Tensor:
        times = torch.full((tokens.shape[1],), t, device=self.device)
        return self.model.embed_latents(tokens, times, self.model.latent_index(grid, self.device))

    @torch.inference_mode()
    def denoise(
        self, branches: Sequence[tuple[Sequence[Block], int]], x: Tensor, grid: tuple[int, int], t: float
    ) -> Tensor:
        """Noised tokens ``x [N, token_dim]`` at time ``t`` behind each branch's (blocks, position), as one batch.

        Returns hidden rows ``[B, N, D]`` before the final norm; :meth:`.model.Bagel.velocity` makes velocities of them.
        """
        count = len(branches)
        text = self.markers().expand(count, -1, -1)
        gen = self._embed_tokens(x[None], grid, t).expand(count, -1, -1)
        rows = text.shape[1] + gen.shape[1]
        positions = torch.cat([self._positions(rows, position, False) for _, position in branches])
        past = [blocks for blocks, _ in branches]
        return self.model.decode_rows(text, gen, positions, attend_to(past))[1]

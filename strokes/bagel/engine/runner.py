"""The runner: one segment prefilled, one sampling step or one token of text, behind a prefix or many.

Axes as in :mod:`..network.decoder`; L layers, P rows of a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from ..network.config import SpecialTokens
from ..network.decoder import Attend
from ..network.model import Bagel
from ..network.vision import patchify
from .prefix import Block, Segment

# A guidance branch: the blocks of its prefix and the next rope position.
Branch = tuple[Sequence[Block], int]

# Attention of one layer, heads in front: (layer, q [B,H,N,d], k [B,K,N,d], v [B,K,N,d]) -> [B,N,H,d]
HeadsFirst = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class PrefillRequest(NamedTuple):
    """A segment to prefill: the blocks before it, its first rope position, itself."""

    past: Sequence[Block]
    position: int
    segment: Segment


class Prefilled(NamedTuple):
    """A segment's block and its hidden rows ``[n, D]`` of each expert, before the final norms.

    Understanding rows of an image are start marker, end marker, patches.
    """

    block: Block
    text: Tensor
    gen: Tensor


class ScoreRequest(NamedTuple):
    """Answers to score behind ``past``: a tree of token ids, its first rope position, and the edges to read.

    ``ids`` are the rows of the tree in an order in which parents come first; ``parents`` has the row before each, -1 for the
    first. An edge is (row, token): the token that may follow the row.
    """

    past: Sequence[Block]
    position: int
    ids: Sequence[int]
    parents: Sequence[int]
    edges: Sequence[tuple[int, int]]


class DenoiseRequest(NamedTuple):
    """Noised latent tokens ``x [N, token_dim]`` of one picture at time ``t``, and the branches to run them behind."""

    branches: Sequence[Branch]
    x: Tensor
    t: float


class KVRecorder:
    """Keys and values ``[B, K, N, d]`` of all rows of one forward, a pair for each layer."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def record(self, k: Tensor, v: Tensor) -> None:
        """Take those of the next layer."""
        self.keys.append(k)
        self.values.append(v)

    def blocks(self, rows: Sequence[int]) -> list[Block]:
        """One block a branch, of its first ``rows[i]`` rows: copies, so that none keeps the whole batch in memory."""
        keys, values = torch.stack(self.keys), torch.stack(self.values)
        return [Block(*(x[:, i, :, :n].contiguous() for x in (keys, values))) for i, n in enumerate(rows)]


class DecodeCache:
    """The KV cache of one text being written: keys and values ``[L, K, rows, d]``, allocated once.

    It begins as a copy of the blocks of a prefix and grows by one row a token.
    """

    def __init__(self, past: Sequence[Block], room: int, like: Tensor, shape: tuple[int, int, int]):
        """``room`` is the number of rows to come, ``shape`` is (L, K, d); type and device are those of ``like``."""
        layers, heads, dim = shape
        self.length = 0
        rows = sum(block.rows for block in past) + room
        self.keys = like.new_empty(layers, heads, rows, dim)
        self.values = torch.empty_like(self.keys)
        for block in past:
            self.append(block)

    @property
    def block(self) -> Block:
        """The rows held so far, as a view."""
        return Block(self.keys[:, :, : self.length], self.values[:, :, : self.length])

    def append(self, block: Block) -> None:
        """Copy the rows of a block behind those held."""
        end = self.length + block.rows
        self.keys[:, :, self.length : end] = block.keys
        self.values[:, :, self.length : end] = block.values
        self.length = end

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention of new rows, as an :data:`..network.decoder.Attend`; writes their keys and values behind the others.

        The rows count as held once the caller has increased ``length``, when all layers are through.
        """
        rows = q.shape[1]
        end = self.length + rows
        self.keys[layer, :, self.length : end] = k[0].transpose(0, 1)  # [N,K,d] -> [K,N,d]
        self.values[layer, :, self.length : end] = v[0].transpose(0, 1)
        mask = behind(self.length, causal_rows(rows, q.device)) if rows > 1 else None
        return attention(q.transpose(1, 2), self.keys[None, layer, :, :end], self.values[None, layer, :, :end], mask)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention ``[B, N, H, d]`` of ``q [B, H, N, d]`` to ``k, v [B, K, P+N, d]``; scale 1/√d, grouped queries.

    ``mask``, bool and broadcast to ``[B, H, N, P+N]``, is True where a row attends; None: everywhere.
    """
    out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)


def causal_rows(rows: int, device: torch.device) -> Tensor:
    """Mask ``[N, N]`` among N = ``rows`` rows of a text: True where a row attends, to those before it and itself."""
    return torch.ones(rows, rows, dtype=torch.bool, device=device).tril()


def tree_rows(parents: Sequence[int], rows: int) -> Tensor:
    """Mask ``[N, N]`` among the rows of a tree: True where a row attends, to its ancestors and itself; N = ``rows`` may be
    more than the tree has, and those after it attend to themselves."""
    mask = torch.eye(rows, dtype=torch.bool)
    for row, parent in enumerate(parents):
        if parent >= 0:
            mask[row] |= mask[parent]
    return mask


def behind(past: int, inside: Tensor) -> Tensor:
    """Mask ``[N, P+N]`` of rows that all attend to P = ``past`` rows, and among themselves as ``inside [N, N]`` says."""
    return torch.cat((inside.new_ones(len(inside), past), inside), dim=1)


class Runner:
    """The calls of a network behind a prefix: prefill a segment, denoise latents, predict the next token.

    Linears run as one batch over all branches. Attention runs branch by branch, so that prefixes may differ in length.
    """

    def __init__(self, model: Bagel, special: SpecialTokens, device: torch.device | None = None):
        """``device`` is where rows are computed; None: where the weights are. Streamed weights are elsewhere."""
        self.model, self.special, self._device = model, special, device

    @property
    def device(self) -> torch.device:
        return self._device or self.model.language_model.model.norm.weight.device

    def attend(
        self, past: Sequence[Sequence[Block]], inside: Tensor | None = None, recorder: KVRecorder | None = None
    ) -> Attend:
        """Attention of each branch's rows to the blocks of its own ``past`` and to each other.

        ``inside``, bool ``[N, N]`` or ``[B, N, N]``, says to which rows of its branch a row attends; None: to all.
        ``recorder`` is given all keys and values.
        """
        attention_behind = self.attention_behind(past, inside)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (rearrange(x, "b n h d -> b h n d") for x in (q, k, v))
            if recorder is not None:
                recorder.record(k, v)
            return attention_behind(layer, q, k, v)

        return attend

    def attention_behind(self, past: Sequence[Sequence[Block]], inside: Tensor | None) -> HeadsFirst:
        """The attention of :meth:`attend`, one call a branch."""

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            rows, out = q.shape[2], []
            for i, blocks in enumerate(past):
                keys = torch.cat([*(block.keys[layer] for block in blocks), k[i]], dim=1)
                values = torch.cat([*(block.values[layer] for block in blocks), v[i]], dim=1)
                mask = None
                if inside is not None and rows > 1:
                    mask = behind(keys.shape[1] - rows, inside[i] if inside.ndim == 3 else inside)
                out.append(attention(q[i : i + 1], keys[None], values[None], mask))
            return torch.cat(out)

        return attend

    def _embed_ids(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Rows ``[B, N, D]`` of B token sequences of one length."""
        return self.model.embed_text(torch.tensor([list(row) for row in ids], device=self.device))

    def markers(self) -> Tensor:
        """Rows ``[1, 2, D]`` of the two image markers."""
        return self._embed_ids([(self.special.start_of_image, self.special.end_of_image)])

    def _positions(self, first: Sequence[int], rows: int, causal: bool) -> Tensor:
        """Rope positions ``[B, rows]``: from ``first`` of each branch on where ``causal``, else all ``first``."""
        start = torch.tensor(first, device=self.device)[:, None]
        return start + torch.arange(rows, device=self.device) if causal else start.expand(-1, rows)

    def prefill(self, past: Sequence[Block], position: int, segment: Segment) -> Prefilled:
        """Run one whole segment behind ``past`` in one call; ``position`` is its first rope position."""
        return self.prefill_many([PrefillRequest(past, position, segment)])[0]

    @torch.inference_mode()
    def prefill_many(self, requests: Sequence[PrefillRequest]) -> list[Prefilled]:
        """:meth:`prefill` of texts of any length, or of images of one kind and shape, as one batch."""
        model, count = self.model, len(requests)
        past, positions, segments = zip(*requests, strict=True)
        causal = segments[0].kind == "text"
        gen = torch.empty(count, 0, model.config.language.hidden_size, device=self.device, dtype=model.dtype)
        if causal:
            ids = [(self.special.bos, *segment.content, self.special.eos) for segment in segments]
            lengths = [len(row) for row in ids]
            # Padding comes last: no row that is kept attends to it.
            text = self._embed_ids([row + row[-1:] * (max(lengths) - len(row)) for row in ids])
        else:
            content = torch.stack([segment.content for segment in segments]).to(self.device)
            text = self.markers().expand(count, -1, -1)
            if segments[0].kind == "latents":
                gen = self.embed_latents(content, 0.0)
            else:
                text = torch.cat((text, model.embed_pixels(content)), dim=1)
            lengths = [text.shape[1] + gen.shape[1]] * count
        recorder = KVRecorder()
        rope = self._positions(positions, text.shape[1] + gen.shape[1], causal)
        inside = causal_rows(text.shape[1], self.device) if causal else None
        hidden_text, hidden_gen = model.decode_rows(text, gen, rope, self.attend(past, inside, recorder))
        blocks = recorder.blocks(lengths)
        return [Prefilled(block, hidden_text[i, : block.rows], hidden_gen[i]) for i, block in enumerate(blocks)]

    def embed_latents(self, latents: Tensor, t: float) -> Tensor:
        """Rows ``[B, N, D]`` of latents ``[B, C, h, w]`` at time ``t``."""
        patch = self.model.config.latent_patch_size
        grid = (latents.shape[2] // patch, latents.shape[3] // patch)
        return self._embed_tokens(patchify(latents, patch), grid, [t] * len(latents))

    def _embed_tokens(self, tokens: Tensor, grid: tuple[int, int], t: Sequence[float]) -> Tensor:
        """Rows ``[B, N, D]`` of latent tokens ``[B, N, token_dim]``, each picture at a time of its own."""
        times = torch.tensor(t, device=self.device)[:, None].expand(-1, tokens.shape[1])
        return self.model.embed_latents(tokens, times, self.model.latent_index(grid, self.device))

    def denoise(self, branches: Sequence[Branch], x: Tensor, grid: tuple[int, int], t: float) -> Tensor:
        """Hidden rows ``[B, N, D]``, before the final norm, of noised tokens ``x [N, token_dim]`` behind each branch.

        ``grid`` is the tokens' (rows, columns), ``t`` their time. :meth:`velocities` makes velocities of the rows.
        """
        return self.denoise_many([DenoiseRequest(branches, x, t)], grid)[0]

    @torch.inference_mode()
    def denoise_many(self, requests: Sequence[DenoiseRequest], grid: tuple[int, int]) -> list[Tensor]:
        """:meth:`denoise` of several pictures of one size, as one batch."""
        counts = [len(request.branches) for request in requests]
        tokens = torch.stack([request.x for request in requests]).to(self.device)
        gen = self._embed_tokens(tokens, grid, [request.t for request in requests])
        gen = gen.repeat_interleave(torch.tensor(counts, device=self.device), dim=0, output_size=sum(counts))
        text = self.markers().expand(len(gen), -1, -1)
        past, positions = zip(*(branch for request in requests for branch in request.branches), strict=True)
        rope = self._positions(positions, text.shape[1] + gen.shape[1], False)
        _, hidden = self.model.decode_rows(text, gen, rope, self.attend(past))
        return list(hidden.split(counts))

    @torch.inference_mode()
    def velocities(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        """Velocities ``[N, token_dim]``, float32, of the hidden rows ``[N, D]`` of each branch."""
        return [self.model.velocity(rows).float() for rows in hidden]

    def decode_cache(self, past: Sequence[Block], room: int) -> DecodeCache:
        """A KV cache that holds ``past`` and has room for ``room`` rows more."""
        config = self.model.config.language
        like = past[0].keys if past else torch.empty(0, device=self.device, dtype=self.model.dtype)
        return DecodeCache(past, room, like, (config.num_hidden_layers, config.num_key_value_heads, config.head_dim))

    @torch.inference_mode()
    def decode_tokens(self, decode_cache: DecodeCache, tokens: Sequence[int], position: int) -> Tensor:
        """Logits ``[V]`` of what follows ``tokens`` behind the rows of ``decode_cache``, which grows by theirs.

        ``position`` is the rope position of the first.
        """
        logits = self.next_logits([tokens], [position], decode_cache.attend)[0]
        decode_cache.length += len(tokens)
        return logits

    def next_logits(self, tokens: Sequence[Sequence[int]], positions: Sequence[int], attend: Attend) -> Tensor:
        """Logits ``[B, V]`` of what follows the tokens of each branch, which all have the same number of them."""
        rows = self._embed_ids(tokens)
        hidden, _ = self.model.decode_rows(rows, rows[:, :0], self._positions(positions, rows.shape[1], True), attend)
        return self.model.logits(hidden[:, -1])

    def score(self, request: ScoreRequest) -> Tensor:
        """Log-probabilities ``[E]``, float32 on the CPU, of the edges of a tree of answers."""
        return self.score_many([request])[0]

    @torch.inference_mode()
    def score_many(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """:meth:`score` of many trees, as one batch."""
        rows = max(len(request.ids) for request in requests)
        # Padding comes last and has no children: no row of a tree attends to it.
        text = self._embed_ids([[*r.ids, *([r.ids[-1]] * (rows - len(r.ids)))] for r in requests])
        inside = torch.stack([tree_rows(request.parents, rows) for request in requests])
        depth = inside.sum(-1) - 1
        positions = (depth + torch.tensor([[request.position] for request in requests])).to(self.device)
        attend = self.attend([request.past for request in requests], inside.to(self.device))
        hidden, _ = self.model.decode_rows(text, text[:, :0], positions, attend)
        return [self._edges(request, hidden[i]) for i, request in enumerate(requests)]

    def _edges(self, request: ScoreRequest, hidden: Tensor) -> Tensor:
        """Log-probabilities ``[E]`` of a tree's edges, of its hidden rows ``[N, D]``."""
        # The head is as wide as the vocabulary, so only rows that have edges go through it.
        due = sorted({row for row, _ in request.edges})
        logs = self.model.logits(hidden[due]).float().log_softmax(-1)
        return logs[[due.index(row) for row, _ in request.edges], [token for _, token in request.edges]].cpu()

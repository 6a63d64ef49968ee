"""The runner: one segment behind a prefix, one sampling step, or one token of text. Axes as in :mod:`..network.decoder`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..network.config import SpecialTokens
from ..network.decoder import Attend
from ..network.model import Bagel
from ..network.vision import patchify
from .prefix import Block, Segment


class Recorder:
    """Collects the keys and values ``[B, K, N, d]`` of the rows that run through the decoder, layer by layer."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def blocks(self, rows: Sequence[int]) -> list[Block]:
        """The first ``rows`` of each branch. None holds the memory of the others."""
        keys, values = torch.stack(self.keys), torch.stack(self.values)
        return [Block(*(x[:, i, :, :n].contiguous() for x in (keys, values))) for i, n in enumerate(rows)]


class DecodeCache:
    """Preallocated keys and values ``[L, K, rows, d]``: a prefix joined once, then one row a token."""

    def __init__(self, past: Sequence[Block], room: int, like: Tensor, shape: tuple[int, int, int]):
        layers, heads, dim = shape
        self.length = 0
        rows = sum(block.rows for block in past) + room
        self.keys = like.new_empty(layers, heads, rows, dim)
        self.values = torch.empty_like(self.keys)
        for block in past:
            self.append(block)

    @property
    def block(self) -> Block:
        """What is held so far, as a view."""
        return Block(self.keys[:, :, : self.length], self.values[:, :, : self.length])

    def append(self, block: Block) -> None:
        end = self.length + block.rows
        self.keys[:, :, self.length : end] = block.keys
        self.values[:, :, self.length : end] = block.values
        self.length = end

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One new row; see :data:`.decoder.Attend`. It is held from the next token on, when ``length`` has grown."""
        end = self.length + 1
        self.keys[layer, :, self.length : end] = k[0].transpose(0, 1)
        self.values[layer, :, self.length : end] = v[0].transpose(0, 1)
        return attention(q.transpose(1, 2), self.keys[None, layer, :, :end], self.values[None, layer, :, :end])


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """``q [B, H, N, d]``, ``k, v [B, K, P+N, d]`` → ``[B, N, H, d]``; scale 1/√d, grouped queries."""
    out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)


def attend_to(past: Sequence[Sequence[Block]], causal: bool = False, recorder: Recorder | None = None) -> Attend:
    """Attention of each branch's rows to its own blocks and to themselves (up to themselves where ``causal``).

    Branches may stand behind prefixes of different length: linears run as one batch, attention branch by branch.
    """

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if recorder is not None:
            recorder.keys.append(k)
            recorder.values.append(v)
        rows, out = q.shape[2], []
        for i, blocks in enumerate(past):
            keys = torch.cat([*(block.keys[layer] for block in blocks), k[i]], dim=1)
            values = torch.cat([*(block.values[layer] for block in blocks), v[i]], dim=1)
            mask = None
            if causal and rows > 1:
                mask = torch.ones(rows, keys.shape[1], dtype=torch.bool, device=q.device).tril(keys.shape[1] - rows)
            out.append(attention(q[i : i + 1], keys[None], values[None], mask))
        return torch.cat(out)

    return attend


# Blocks before a segment, its first rope position, the segment.
Prefill = tuple[Sequence[Block], int, Segment]

# (blocks, rope position) of each branch, noised tokens ``[N, token_dim]``, their time.
Denoise = tuple[Sequence[tuple[Sequence[Block], int]], Tensor, float]


class Runner:
    """A model with its marker ids: prefills segments, predicts velocities and next tokens behind prefixes."""

    def __init__(self, model: Bagel, special: SpecialTokens, device: torch.device | None = None):
        """``device`` is where rows are computed; None: where the weights are. They differ where weights are streamed."""
        self.model, self.special, self._device = model, special, device

    @property
    def device(self) -> torch.device:
        return self._device or self.model.language_model.model.norm.weight.device

    def attend(self, past: Sequence[Sequence[Block]], causal: bool = False, recorder: Recorder | None = None) -> Attend:
        return attend_to(past, causal, recorder)

    def _ids(self, ids: Sequence[Sequence[int]]) -> Tensor:
        return self.model.embed_text(torch.tensor([list(row) for row in ids], device=self.device))

    def markers(self) -> Tensor:
        """Rows ``[1, 2, D]`` of the two image markers."""
        return self._ids([(self.special.start_of_image, self.special.end_of_image)])

    def _positions(self, first: Sequence[int], rows: int, causal: bool) -> Tensor:
        start = torch.tensor(first, device=self.device)[:, None]
        return start + torch.arange(rows, device=self.device) if causal else start.expand(-1, rows)

    def prefill(self, past: Sequence[Block], position: int, segment: Segment) -> tuple[Block, Tensor, Tensor]:
        """Run one whole segment behind ``past`` in one call.

        Returns its block and the hidden rows ``[n, D]`` of each expert before the final norm. Rows of an image come
        in the order start marker, end marker, image rows.
        """
        return self.prefill_many([(past, position, segment)])[0]

    @torch.inference_mode()
    def prefill_many(self, asked: Sequence[Prefill]) -> list[tuple[Block, Tensor, Tensor]]:
        """:meth:`prefill` of texts of any length, or of images of one kind and shape, as one batch."""
        model, count = self.model, len(asked)
        past, positions, segments = zip(*asked, strict=True)
        causal = segments[0].kind == "text"
        gen = torch.empty(count, 0, model.config.language.hidden_size, device=self.device, dtype=model.dtype)
        if causal:
            ids = [(self.special.bos, *segment.content, self.special.eos) for segment in segments]
            lengths = [len(row) for row in ids]
            # Padding comes last: no row that is kept can see it.
            text = self._ids([row + row[-1:] * (max(lengths) - len(row)) for row in ids])
        else:
            content = torch.stack([segment.content for segment in segments]).to(self.device)
            text = self.markers().expand(count, -1, -1)
            if segments[0].kind == "latents":
                gen = self.embed_latents(content, 0.0)
            else:
                text = torch.cat((text, model.embed_pixels(content)), dim=1)
            lengths = [text.shape[1] + gen.shape[1]] * count
        recorder = Recorder()
        at = self._positions(positions, text.shape[1] + gen.shape[1], causal)
        hidden = model.decode_rows(text, gen, at, self.attend(past, causal, recorder))
        blocks = recorder.blocks(lengths)
        return [(block, hidden[0][i, : block.rows], hidden[1][i]) for i, block in enumerate(blocks)]

    def embed_latents(self, latents: Tensor, t: float) -> Tensor:
        """Latents ``[B, C, h, w]`` at time ``t`` → rows ``[B, N, D]``."""
        patch = self.model.config.latent_patch_size
        grid = (latents.shape[2] // patch, latents.shape[3] // patch)
        return self._embed_tokens(patchify(latents, patch), grid, [t] * len(latents))

    def _embed_tokens(self, tokens: Tensor, grid: tuple[int, int], t: Sequence[float]) -> Tensor:
        times = torch.tensor(t, device=self.device)[:, None].expand(-1, tokens.shape[1])
        return self.model.embed_latents(tokens, times, self.model.latent_index(grid, self.device))

    def denoise(
        self, branches: Sequence[tuple[Sequence[Block], int]], x: Tensor, grid: tuple[int, int], t: float
    ) -> Tensor:
        """Noised tokens ``x [N, token_dim]`` at time ``t`` behind each branch's (blocks, position), as one batch.

        Returns hidden rows ``[B, N, D]`` before the final norm; :meth:`velocities` makes velocities of them.
        """
        return self.denoise_many([(branches, x, t)], grid)[0]

    @torch.inference_mode()
    def denoise_many(self, asked: Sequence[Denoise], grid: tuple[int, int]) -> list[Tensor]:
        """:meth:`denoise` of several pictures of one size, as one batch."""
        counts = [len(branches) for branches, _, _ in asked]
        tokens = torch.stack([x for _, x, _ in asked]).to(self.device)
        gen = self._embed_tokens(tokens, grid, [t for _, _, t in asked])
        gen = gen.repeat_interleave(torch.tensor(counts, device=self.device), dim=0, output_size=sum(counts))
        text = self.markers().expand(len(gen), -1, -1)
        past, positions = zip(*(branch for branches, _, _ in asked for branch in branches), strict=True)
        at = self._positions(positions, text.shape[1] + gen.shape[1], False)
        hidden = self.model.decode_rows(text, gen, at, self.attend(past))[1]
        return list(hidden.split(counts))

    @torch.inference_mode()
    def velocities(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        """Hidden rows ``[N, D]`` of branches → their velocities ``[N, token_dim]`` in float32."""
        return [self.model.velocity(rows).float() for rows in hidden]

    def decode_cache(self, past: Sequence[Block], room: int) -> DecodeCache:
        """Where up to ``room`` rows of text can be written behind ``past``."""
        config = self.model.config.language
        like = past[0].keys if past else torch.empty(0, device=self.device, dtype=self.model.dtype)
        return DecodeCache(past, room, like, (config.num_hidden_layers, config.num_key_value_heads, config.head_dim))

    @torch.inference_mode()
    def decode_token(self, decode_cache: DecodeCache, token: int, position: int) -> Tensor:
        """Run one token behind what ``decode_cache`` holds, which grows by it. Returns logits ``[V]`` of the next."""
        logits = self.next_logits([token], [position], decode_cache.attend)[0]
        decode_cache.length += 1
        return logits

    def next_logits(self, tokens: Sequence[int], positions: Sequence[int], attend: Attend) -> Tensor:
        """Logits ``[B, V]`` after one token of each branch."""
        rows = self._ids([[token] for token in tokens])
        hidden = self.model.decode_rows(rows, rows[:, :0], self._positions(positions, 1, True), attend)[0]
        return self.model.logits(hidden[:, -1])

"""The batched runner: one call of the network for the requests of many painting processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from einops import rearrange
from torch import Tensor

from .prefix import Block
from .runner import DecodeCache, HeadsFirst, KVRecorder, Runner, attention, causal_rows


def join(past: Sequence[Sequence[Block]]) -> tuple[Block, Tensor]:
    """Keys and values ``[L, B, K, P, d]`` of the prefixes of all branches, padded at the end, and a mask ``[B, P]``.

    The mask is bool and False at padding. Branches may share blocks.
    """
    start: dict[int, int] = {}
    distinct = {id(block): block for blocks in past for block in blocks}
    rows = 0
    for key, block in distinct.items():
        start[key], rows = rows, rows + block.rows
    index = [[row for b in blocks for row in range(start[id(b)], start[id(b)] + b.rows)] for blocks in past]
    longest = max(map(len, index))
    real = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in index])
    flat = torch.tensor([row + [0] * (longest - len(row)) for row in index]).flatten()

    def gathered(tensors: Sequence[Tensor]) -> Tensor:
        whole = torch.cat(list(tensors), dim=2)
        return rearrange(whole.index_select(2, flat.to(whole.device)), "l k (b p) d -> l b k p d", b=len(past))

    joined = Block(gathered([b.keys for b in distinct.values()]), gathered([b.values for b in distinct.values()]))
    return joined, real


class BatchedRunner(Runner):
    """A runner whose attention is one padded call for all branches: for many branches behind short prefixes."""

    def attention_behind(self, past: Sequence[Sequence[Block]], inside: Tensor | None) -> HeadsFirst:
        """The attention of :meth:`attend`, one call for all branches."""
        joined, real = join(past) if any(past) else (None, torch.empty(len(past), 0, dtype=torch.bool))

        @cache
        def mask(rows: int) -> Tensor:
            """Bool ``[B, 1, N, P+N]`` for N = ``rows``."""
            among = torch.ones(rows, rows, dtype=torch.bool) if inside is None else inside.cpu()
            among = among.expand(len(past), -1, -1)
            return torch.cat((real[:, None].expand(-1, rows, -1), among), dim=2)[:, None].to(self.device)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if joined is not None:
                k = torch.cat((joined.keys[layer], k), dim=2)
                v = torch.cat((joined.values[layer], v), dim=2)
            return attention(q, k, v, mask(q.shape[2]))

        return attend

    @torch.inference_mode()
    def decode_many(self, requests: Sequence[tuple[DecodeCache, Sequence[int], int]]) -> list[Tensor]:
        """:meth:`decode_tokens` of many texts: of each its cache, as many tokens as of every other, and their position.

        Logits are on the CPU.
        """
        caches, tokens, positions = zip(*requests, strict=True)
        rows = len(tokens[0])
        recorder = KVRecorder()
        inside = causal_rows(rows, self.device) if rows > 1 else None
        attend = self.attend([[decode_cache.block] for decode_cache in caches], inside, recorder)
        logits = self.next_logits(tokens, positions, attend).cpu()
        for decode_cache, block in zip(caches, recorder.blocks([rows] * len(requests)), strict=True):
            decode_cache.append(block)
        return list(logits)

    @torch.inference_mode()
    def velocities_many(self, requests: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """:meth:`velocities` of many pictures of one size, on the CPU."""
        rows = torch.stack([rows for hidden in requests for rows in hidden])
        found = iter(self.model.velocity(rows).float().cpu())
        return [[next(found) for _ in hidden] for hidden in requests]

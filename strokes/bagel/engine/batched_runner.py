"""Calls of many painting processes as one call: what :class:`.context.Runner` leaves to whoever has many at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from ..network.decoder import Attend
from .prefix import Block
from .runner import DecodeCache, Recorder, Runner, attention


def join(past: Sequence[Sequence[Block]]) -> tuple[Block, Tensor]:
    """The pasts of branches, padded at the end: keys and values ``[L, B, K, P, d]``, and which rows are real ``[B, P]``.

    Branches may share blocks.
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
        return whole.index_select(2, flat.to(whole.device)).unflatten(2, (len(past), longest)).transpose(1, 2)

    joined = Block(gathered([b.keys for b in distinct.values()]), gathered([b.values for b in distinct.values()]))
    return joined, real


class BatchedRunner(Runner):
    """A runner whose attention is one padded call for all branches: for many branches behind short pasts."""

    def attend(self, past: Sequence[Sequence[Block]], causal: bool = False, recorder: Recorder | None = None) -> Attend:
        joined, real = join(past) if any(past) else (None, torch.empty(len(past), 0, dtype=torch.bool))

        @cache
        def mask(rows: int) -> Tensor:
            """``[B, 1, N, P+N]``."""
            own = torch.ones(rows, rows, dtype=torch.bool)
            own = (own.tril() if causal else own).expand(len(past), -1, -1)
            return torch.cat((real[:, None].expand(-1, rows, -1), own), dim=2)[:, None].to(self.device)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
            if recorder is not None:
                recorder.keys.append(k)
                recorder.values.append(v)
            if joined is not None:
                k = torch.cat((joined.keys[layer], k), dim=2)
                v = torch.cat((joined.values[layer], v), dim=2)
            return attention(q, k, v, mask(q.shape[2]))

        return attend

    @torch.inference_mode()
    def decode_tokens(self, asked: Sequence[tuple[DecodeCache, int, int]]) -> list[Tensor]:
        """:meth:`step` of many texts."""
        scratches, tokens, positions = zip(*asked, strict=True)
        recorder = Recorder()
        logits = self.next_logits(
            tokens, positions, self.attend([[s.block] for s in scratches], recorder=recorder)
        ).cpu()
        for decode_cache, block in zip(scratches, recorder.blocks([1] * len(asked)), strict=True):
            decode_cache.append(block)
        return list(logits)

    @torch.inference_mode()
    def velocities_many(self, asked: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """:meth:`velocities` of many pictures of one size."""
        rows = torch.stack([rows for hidden in asked for rows in hidden])
        found = iter(self.model.velocity(rows).float().cpu())
        return [[next(found) for _ in hidden] for hidden in asked]

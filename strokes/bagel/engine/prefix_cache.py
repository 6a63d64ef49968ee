"""The KV prefix cache: blocks of keys and values by the content of the prefix they stand behind.

It changes speed, never results: prefill always runs one whole segment in one call, so a block computed again is the same
block bit for bit, and any block may be dropped at any time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .prefix import Block, Prefix
from .runner import Runner


@dataclass
class PrefixCacheCounts:
    """Segments and rows prefilled and found again; ``decoded`` counts rows run one by one while text was written."""

    prefilled: int = 0
    prefilled_rows: int = 0
    reused: int = 0
    reused_rows: int = 0
    decoded: int = 0


class PrefixCache:
    """Blocks of one network, least recently used first, at most ``capacity`` bytes (None: an eighth of the weights').

    ``variant`` names what else decides a block beside its prefix: the patches on the weights. ``evict`` and ``clear``
    may be called at any time: whoever is using a block holds it.
    """

    def __init__(self, runner: Runner, capacity: int | None = None):
        weights = sum(parameter.nbytes for parameter in runner.model.parameters())
        self.runner, self.capacity = runner, weights // 8 if capacity is None else capacity
        self.counts = PrefixCacheCounts()
        self._blocks: OrderedDict[tuple[str, bytes], Block] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self._blocks.values())

    def __len__(self) -> int:
        return len(self._blocks)

    def blocks(self, prefix: Prefix, variant: str = "") -> list[Block]:
        """The blocks of a prefix, from memory where held, prefilled where not."""
        out: list[Block] = []
        position = 0
        for key, segment in zip(prefix.keys, prefix.segments, strict=True):
            block = self._blocks.get((variant, key))
            if block is None:
                block = self.runner.prefill(out, position, segment)[0]
                self.counts.prefilled += 1
                self.counts.prefilled_rows += block.rows
                self._blocks[variant, key] = block
            else:
                self.counts.reused += 1
                self.counts.reused_rows += block.rows
            self._blocks.move_to_end((variant, key))
            out.append(block)
            position += segment.positions
        self.evict(self.nbytes - self.capacity)
        return out

    def evict(self, nbytes: int) -> int:
        """Drop the least recently used blocks until ``nbytes`` are freed or none is left; returns the bytes freed."""
        freed = 0
        while freed < nbytes and self._blocks:
            freed += self._blocks.popitem(last=False)[1].nbytes
        return freed

    def clear(self) -> None:
        self._blocks.clear()

"""The prefix cache: blocks of keys and values by the digest of the prefix that they end.

It is a memo of a prefix: it changes speed, never results. Prefill runs one whole segment in one call, so that a block
computed again is the same bit for bit. Any block may be dropped at any time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .prefix import Block, Prefix
from .runner import Runner


@dataclass
class PrefixCacheCounts:
    """Segments prefilled, segments found in the cache, rows run to write text, its forced starts included, and rows run to
    score answers."""

    prefilled: int = 0
    reused: int = 0
    decoded: int = 0
    scored: int = 0


class PrefixCache:
    """Blocks of one network, at most ``capacity`` bytes of them; the least recently used is dropped first.

    Without ``capacity`` it is an eighth of the weights' bytes. ``variant`` names the patches on the weights: blocks of
    different patches are kept apart. :meth:`evict` and :meth:`clear` may be called at any time: a block in use lives on
    with its user.
    """

    def __init__(self, runner: Runner, capacity: int | None = None):
        weights = sum(parameter.nbytes for parameter in runner.model.parameters())
        self.runner, self.capacity = runner, weights // 8 if capacity is None else capacity
        self.counts = PrefixCacheCounts()
        self._blocks: OrderedDict[tuple[str, bytes], Block] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks held."""
        return sum(block.nbytes for block in self._blocks.values())

    def __len__(self) -> int:
        return len(self._blocks)

    def blocks(self, prefix: Prefix, variant: str = "") -> list[Block]:
        """The blocks of a prefix, one a segment; those that are not held are prefilled."""
        out: list[Block] = []
        position = 0
        for key, segment in zip(prefix.keys, prefix.segments, strict=True):
            block = self._blocks.get((variant, key))
            if block is None:
                block = self.runner.prefill(out, position, segment).block
                self.counts.prefilled += 1
                self._blocks[variant, key] = block
            else:
                self.counts.reused += 1
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
        """Drop all blocks."""
        self._blocks.clear()

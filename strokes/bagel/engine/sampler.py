"""Velocities of the guidance branches of one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from . import flow
from .prefix import Block, Prefix
from .runner import Branch, Runner

# Branches of guidance run as one batch up to this many rows; beyond, a call is bound by arithmetic and batching only
# costs memory.
BATCH_ROWS = 4096


class BranchSampler:
    """Velocities ``[N, token_dim]`` of named guidance branches, each behind its prefix; ``calls`` counts the branches run
    in full, which with ``extrapolate`` are not all.

    ``blocks`` gives a prefix's keys and values, asked for once a branch; ``grid`` is the picture's (rows, columns) of tokens.
    """

    def __init__(
        self,
        runner: Runner,
        blocks: Callable[[Prefix], list[Block]],
        prefixes: dict[str, Prefix],
        grid: tuple[int, int],
        extrapolate: bool,
    ):
        self.runner, self.blocks, self.prefixes, self.grid = runner, blocks, prefixes, grid
        self.series = {name: flow.Extrapolation() for name in prefixes} if extrapolate else None
        self.branches: dict[str, Branch] = {}
        self.calls = 0

    def __call__(self, names: Sequence[str], x: Tensor, t: float) -> list[Tensor]:
        due = [name for name in names if self.series is None or self.series[name].full]
        hidden = dict(zip(due, self._run(due, x, t), strict=True))
        if self.series is not None:
            hidden = {
                name: self.series[name].record(hidden[name]) if name in hidden else self.series[name].predict()
                for name in names
            }
        return self.runner.velocities([hidden[name] for name in names])

    def _run(self, names: Sequence[str], x: Tensor, t: float) -> list[Tensor]:
        """Hidden rows ``[N, D]`` of each branch, from the network."""
        self.calls += len(names)
        for name in names:
            if name not in self.branches:
                prefix = self.prefixes[name]
                self.branches[name] = (self.blocks(prefix), prefix.position)
        branches = [self.branches[name] for name in names]
        size = max(BATCH_ROWS // (len(x) + 2), 1)
        return [
            hidden
            for i in range(0, len(branches), size)
            for hidden in self.runner.denoise(branches[i : i + size], x, self.grid, t)
        ]

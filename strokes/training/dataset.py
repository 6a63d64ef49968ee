"""The synthetic training data: one-shot pictures and rounds, as shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from .scene_graph import PromptMix
from .shards import ShardSet, build
from .trajectories import RoundMix, Sample, sample_one_shot, sample_round


@dataclass(frozen=True)
class DataPreset:
    """How much synthetic data, and of what kinds."""

    one_shot: int = 60_000
    rounds: int = 100_000
    shard: int = 5_000
    prompts: PromptMix = field(default_factory=PromptMix)
    mix: RoundMix = field(default_factory=RoundMix)


def build_synthetic(
    folder: Path,
    preset: DataPreset,
    seed: int,
    report: Callable[[str, int, int], None] = lambda part, done, total: None,
    workers: int = 0,
) -> tuple[ShardSet, ShardSet]:
    """Build ``folder/one-shot`` and ``folder/rounds`` as far as they are not there; ``report(part, shards, of)``."""
    sets = []
    for part, count, make in (
        ("one-shot", preset.one_shot, partial(one_shots, preset, seed)),
        ("rounds", preset.rounds, partial(rounds, preset, seed)),
    ):
        shards = -(-count // preset.shard)
        build(
            folder / part, {"part": part, "seed": seed, **asdict(preset)}, shards, make, partial(report, part), workers
        )
        sets.append(ShardSet(folder / part))
    return sets[0], sets[1]


def one_shots(preset: DataPreset, seed: int, shard: int) -> Iterator[Sample]:
    rng = np.random.default_rng((seed, 0, shard))
    for _ in range(_size(preset.one_shot, preset.shard, shard)):
        yield sample_one_shot(rng, preset.prompts)


def rounds(preset: DataPreset, seed: int, shard: int) -> Iterator[Sample]:
    rng = np.random.default_rng((seed, 1, shard))
    for _ in range(_size(preset.rounds, preset.shard, shard)):
        yield sample_round(rng, preset.prompts, preset.mix)


def _size(count: int, shard: int, index: int) -> int:
    return min(shard, count - index * shard)

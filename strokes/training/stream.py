"""The stream of batches: each a function of (seed, step, process)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.utils.data import ConcatDataset, Dataset

from ..data.samples import Sample
from ..data.shards import ShardSet
from .packing import Batch, Batcher
from .presets import StagePreset


@dataclass(frozen=True)
class Sources:
    """The data sets of a stage: one-shot pictures, synthetic rounds, self-sampled rounds."""

    one_shot: ShardSet
    rounds: ShardSet | None = None
    self_sampled: ConcatDataset[Sample] | None = None


def draw(sources: Sources, preset: StagePreset, step: int, rng: np.random.Generator) -> list[Sample]:
    """The samples of a step's batch, of all processes together."""
    first, last = preset.one_shot
    share = first + (last - first) * min(1.0, step / preset.ramp)
    one_shot = round(share * preset.batch)
    self_sampled = round(preset.own * (preset.batch - one_shot))
    counts = (
        (sources.one_shot, one_shot),
        (sources.rounds, preset.batch - one_shot - self_sampled),
        (sources.self_sampled, self_sampled),
    )
    return [
        samples[int(i)]
        for samples, count in counts
        if samples and count
        for i in rng.integers(len(samples), size=count)
    ]


class BatchStream(Dataset[tuple[int, Batch]]):
    """(step, batch) by step, for one ``process`` (rank, processes): a function of (seed, step, rank) alone, so that worker
    processes and resumed runs draw the same."""

    def __init__(self, sources: Sources, preset: StagePreset, batcher: Batcher, seed: int, process: tuple[int, int]):
        self.sources, self.preset, self.batcher, self.seed, self.process = sources, preset, batcher, seed, process

    def __getitem__(self, step: int) -> tuple[int, Batch]:
        rank, processes = self.process
        samples = draw(self.sources, self.preset, step, np.random.default_rng((self.seed, step)))[rank::processes]
        return step, self.batcher(samples, np.random.default_rng((self.seed, step, 1 + rank)))

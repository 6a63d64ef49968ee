"""The synthetic training data: one-shot pictures and rounds, as shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from ...bagel.images import to_image
from ...shapes.checker import detect
from ...shapes.drawing import Detection, Scene, render
from ...shapes.sampling import TRAINED, PromptMix
from ..samples import OneShotSample, Sample
from ..shards import ShardSet, build
from .rounds import RoundMix, sample_one_shot, sample_round

Part = Literal["one-shot", "rounds"]


@dataclass(frozen=True)
class DataPreset:
    """How much synthetic data, and of what kinds. ``filtered`` leaves out samples whose pictures the checker reads otherwise
    than they were meant: one in a thousand, for two milliseconds a picture."""

    one_shot: int = 40_000
    rounds: int = 60_000
    shard: int = 5_000
    prompts: PromptMix = TRAINED
    mix: RoundMix = field(default_factory=RoundMix)
    filtered: bool = True


def build_part(
    folder: Path,
    part: Part,
    preset: DataPreset,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 0,
) -> ShardSet:
    """Build the shards of ``folder/part`` that are not there yet; ``report(shards, of)``."""
    count, make = (preset.one_shot, one_shots) if part == "one-shot" else (preset.rounds, rounds)
    settings = {"part": part, "seed": seed, **asdict(preset)}
    build(folder / part, settings, -(-count // preset.shard), partial(make, preset, seed), report, workers)
    return ShardSet(folder / part)


def one_shots(preset: DataPreset, seed: int, shard: int) -> Iterator[Sample]:
    rng = np.random.default_rng((seed, 0, shard))
    return _samples(preset, preset.one_shot, shard, lambda: sample_one_shot(rng, preset.prompts))


def rounds(preset: DataPreset, seed: int, shard: int) -> Iterator[Sample]:
    rng = np.random.default_rng((seed, 1, shard))
    return _samples(preset, preset.rounds, shard, lambda: sample_round(rng, preset.prompts, preset.mix))


def _samples(preset: DataPreset, count: int, shard: int, draw: Callable[[], Sample]) -> Iterator[Sample]:
    left = min(preset.shard, count - shard * preset.shard)
    while left:
        drawn = [draw() for _ in range(min(left, 64))]
        kept = readable(drawn) if preset.filtered else drawn
        left -= len(kept)
        yield from kept


def readable(samples: Sequence[Sample]) -> list[Sample]:
    """Those in which the checker finds, in every scene that should be painted, just the shapes that were meant, where they
    are."""
    owners, scenes = [], []
    for i, sample in enumerate(samples):
        for drawing in (sample.scene,) if isinstance(sample, OneShotSample) else (sample.sketch, sample.refined):
            if isinstance(drawing, list):
                owners.append(i)
                scenes.append(drawing)
    pictures = (to_image(pixels) for pixels in render(scenes) * 2 - 1)
    read = zip(owners, scenes, pictures, strict=True)
    bad = {i for i, scene, picture in read if not _as_meant(scene, detect(picture))}
    return [sample for i, sample in enumerate(samples) if i not in bad]


def _as_meant(scene: Scene, seen: list[Detection]) -> bool:
    left = [s.shape for s in seen if s.clear]
    if len(left) != len(seen) or len(left) != len(scene):
        return False
    return all(any(s.name == f.name and abs(s.x - f.x) < 2 and abs(s.y - f.y) < 2 for f in left) for s in scene)

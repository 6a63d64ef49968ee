"""Synthetic training data of the shapes world: data sets of one-shot pictures and of rounds, as shards."""

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

DataKind = Literal["one-shot", "rounds"]


@dataclass(frozen=True, kw_only=True)
class DataPreset:
    """Sizes and mixes of the synthetic data sets, in samples; ``shard`` samples a shard.

    ``filtered`` leaves out samples with a picture that the checker reads otherwise than it was meant: one in a thousand, at
    two milliseconds a picture.
    """

    one_shot: int = 40_000
    rounds: int = 60_000
    shard: int = 5_000
    prompts: PromptMix = TRAINED
    mix: RoundMix = field(default_factory=RoundMix)
    filtered: bool = True


def build_synthetic(
    folder: Path,
    kind: DataKind,
    preset: DataPreset,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 0,
) -> ShardSet:
    """Build the shards of ``folder/kind`` that are not there yet, and open them; ``report(shards, of)``."""
    count, make = (preset.one_shot, one_shots) if kind == "one-shot" else (preset.rounds, rounds)
    settings = {"part": kind, "seed": seed, **asdict(preset)}
    build(folder / kind, settings, -(-count // preset.shard), partial(make, preset, seed), report, workers)
    return ShardSet(folder / kind)


def one_shots(preset: DataPreset, seed: int, shard: int) -> Iterator[Sample]:
    """The one-shot samples of shard number ``shard``."""
    rng = np.random.default_rng((seed, 0, shard))
    return _samples(preset, preset.one_shot, shard, lambda: sample_one_shot(rng, preset.prompts))


def rounds(preset: DataPreset, seed: int, shard: int) -> Iterator[Sample]:
    """The round samples of shard number ``shard``."""
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
    """The samples whose target scenes the checker reads as they were meant: the same shapes at the same places."""
    owners, scenes = [], []
    for i, sample in enumerate(samples):
        for drawing in (sample.scene,) if isinstance(sample, OneShotSample) else (sample.sketch, sample.refined):
            if isinstance(drawing, list):
                owners.append(i)
                scenes.append(drawing)
    pictures = (to_image(pixels) for pixels in render(scenes) * 2 - 1)
    read = zip(owners, scenes, pictures, strict=True)
    bad = {i for i, scene, picture in read if not _matches(scene, detect(picture))}
    return [sample for i, sample in enumerate(samples) if i not in bad]


def _matches(scene: Scene, found: list[Detection]) -> bool:
    left = [detection.shape for detection in found if detection.clear]
    if len(left) != len(found) or len(left) != len(scene):
        return False
    return all(any(s.name == f.name and abs(s.x - f.x) < 2 and abs(s.y - f.y) < 2 for f in left) for s in scene)

"""Self-sampled rounds: processes that a model runs by itself, annotated (the paper's instruction–intermediate conflicts and
image–instruction alignment).

The model's canvases, plans and sketches are kept; an annotator gives the right plan, critique and refinement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Generic

import numpy as np

from ..bagel.painter import BagelPainter
from ..bagel.scheduler import run_batched
from ..files import sha256_of
from ..process import loop, stages
from ..process.loop import StageSettings
from ..process.painter import Painter
from ..process.pictures import Picture
from ..process.settings import PaintOverrides, TextOverrides
from ..process.trajectory import Round, Trajectory
from .annotator import Annotator, Proposal, Reading
from .samples import RoundSample, StoredPicture
from .shards import ShardSet, build


@dataclass(frozen=True, kw_only=True)
class SelfSampling:
    """Preset of a data set of rollouts: ``processes`` in all, ``shard`` of them a shard, ``width`` of them at a time.

    Plans are sampled at ``temperature``, and a share ``unguided`` of the processes sketches without text guidance, so that
    enough goes wrong to learn critiques from.
    """

    processes: int = 4000
    shard: int = 200
    temperature: float = 0.8
    unguided: float = 0.5
    width: int = 64


@dataclass(frozen=True)
class RolloutTask(Generic[Reading]):
    """The world that rollouts take place in, as two functions of a random generator.

    ``draw_prompt(rng)``: a prompt, and how many rounds a process for it may take. ``annotator(rng)``: who annotates one
    shard.
    """

    draw_prompt: Callable[[np.random.Generator], tuple[str, int]]
    annotator: Callable[[np.random.Generator], Annotator[Reading]]


def build_selfsampled(
    folder: Path,
    painter: BagelPainter,
    weights: Path,
    preset: SelfSampling,
    seed: int,
    task: RolloutTask[Reading],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> ShardSet:
    """Build the shards that are not there yet, and open them; ``report(shards, of)``.

    The data set belongs to the painter's ``weights`` file: its SHA-256 is one of the settings.
    """
    settings = {"weights": sha256_of(weights), "seed": seed, **asdict(preset)}
    shards = -(-preset.processes // preset.shard)
    build(folder, settings, shards, partial(_shard, painter, preset, seed, task), report)
    return ShardSet(folder)


def _shard(
    painter: BagelPainter, preset: SelfSampling, seed: int, task: RolloutTask[Reading], shard: int
) -> Iterator[RoundSample]:
    rng = np.random.default_rng((seed, 2, shard))
    count = min(preset.shard, preset.processes - shard * preset.shard)
    drawn = [task.draw_prompt(rng) for _ in range(count)]
    plans = TextOverrides(temperature=preset.temperature)
    guided, unguided = (
        StageSettings(plan=plans, sketch=sketches) for sketches in (PaintOverrides(), PaintOverrides(text_guidance=1.0))
    )
    jobs = [
        partial(
            roll_out,
            prompt=prompt,
            rounds=rounds,
            seed=int(rng.integers(2**62)),
            settings=unguided if rng.random() < preset.unguided else guided,
        )
        for prompt, rounds in drawn
    ]
    annotator = task.annotator(rng)
    for trajectory in run_batched(painter, jobs, preset.width):
        yield from annotated(trajectory, annotator)


def roll_out(painter: Painter, prompt: str, rounds: int, seed: int, settings: StageSettings) -> Trajectory:
    return loop.run(painter, stages.begin(painter, prompt), rounds, seed=seed, settings=settings)


def annotated(trajectory: Trajectory, annotator: Annotator[Reading]) -> Iterator[RoundSample]:
    """Training samples of a process: each round with the right critique and refinement, and the right plan wherever the
    process had another, also where it went on too long or ended too early."""
    prompt, canvas, reading = trajectory.prompt, None, annotator.read(None)
    for round_ in trajectory.rounds:
        painted = store(round_.sketch.picture) if round_.sketch else None
        yield from _annotated_round(prompt, canvas, reading, round_, painted, annotator)
        if round_.picture is None:
            return
        canvas = store(round_.refinement.picture) if round_.refinement and round_.refinement.picture else painted
        reading = annotator.read(round_.picture)
    yield from _proposed(prompt, canvas, annotator.propose(prompt, reading))


def _annotated_round(
    prompt: str,
    canvas: StoredPicture | None,
    reading: Reading,
    round_: Round,
    painted: StoredPicture | None,
    annotator: Annotator[Reading],
) -> Iterator[RoundSample]:
    plan, sketch = round_.plan, round_.sketch
    assert plan, "a model that is trained on rounds plans each of them"
    annotation = annotator.annotate(prompt, plan, reading, annotator.read(sketch.picture)) if sketch else None
    if annotation is None or annotation.wanted is None:
        yield from _proposed(prompt, canvas, annotator.propose(prompt, reading))
    if annotation is not None:
        yield RoundSample(
            prompt=prompt,
            canvas=canvas,
            instruction=plan.instruction,
            description=plan.description,
            learn_plan=annotation.wanted is not None,
            sketch=annotation.wanted,
            seen=painted,
            caption=annotation.caption,
            explanation=annotation.explanation,
            correction=annotation.correction,
            refined=annotation.refined,
            kind=annotation.kind,
        )


def _proposed(prompt: str, canvas: StoredPicture | None, proposal: Proposal | None) -> Iterator[RoundSample]:
    """The right plan for a canvas, and the picture that should follow."""
    if proposal is None:
        return
    if not proposal.instruction:
        yield RoundSample(prompt=prompt, canvas=canvas)
    else:
        yield RoundSample(
            prompt=prompt,
            canvas=canvas,
            instruction=proposal.instruction,
            description=proposal.description,
            sketch=proposal.drawing,
            kind="plan",
        )


def store(picture: Picture) -> StoredPicture:
    """Pixels and latents of a picture that a model painted."""
    assert picture.latents is not None
    pixels = np.asarray(picture.image.convert("RGB")).transpose(2, 0, 1)
    return StoredPicture(np.ascontiguousarray(pixels), picture.latents.astype(np.float16))

"""Rounds of what a model really plans and paints, judged: the paper's instruction–intermediate conflicts and image–instruction
alignment. The model's canvases, plans and sketches are kept; what should have been said and painted an annotator says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from ..bagel.painter import BagelPainter
from ..bagel.scheduler import run_batched
from ..process import loop, stages
from ..process.loop import StageSettings
from ..process.painter import Painter, PaintOverrides, TextOverrides
from ..process.pictures import Picture
from ..process.trajectory import Round, Trajectory
from ..shapes.sampling import TRAINED, PromptMix, sample_prompt
from .annotator import Annotator, Proposal, Reading
from .samples import RoundSample, StoredPicture
from .shapes.annotator import ShapesAnnotator
from .shards import ShardSet, build


@dataclass(frozen=True)
class SelfSampling:
    """How many processes are rolled out. Plans are sampled at ``temperature``, and a share of the processes sketches
    ``unguided``, so that enough is wrong."""

    processes: int = 4000
    shard: int = 200
    temperature: float = 0.8
    unguided: float = 0.5
    width: int = 64
    prompts: PromptMix = TRAINED


def build_selfsampled(
    folder: Path,
    painter: BagelPainter,
    weights: Path,
    preset: SelfSampling,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    annotator: Callable[[np.random.Generator], Annotator] = ShapesAnnotator,
) -> ShardSet:
    """Build the shards that are not there yet; they belong to the ``weights`` file behind the painter. ``annotator(rng)`` judges
    one shard."""
    settings = {"weights": sha256(weights.read_bytes()).hexdigest(), "seed": seed, **asdict(preset)}
    shards = -(-preset.processes // preset.shard)
    build(folder, settings, shards, partial(_shard, painter, preset, seed, annotator), report)
    return ShardSet(folder)


def _shard(
    painter: BagelPainter,
    preset: SelfSampling,
    seed: int,
    annotator: Callable[[np.random.Generator], Annotator],
    shard: int,
) -> Iterator[RoundSample]:
    rng = np.random.default_rng((seed, 2, shard))
    count = min(preset.shard, preset.processes - shard * preset.shard)
    drawn = [sample_prompt(rng, preset.prompts)[:2] for _ in range(count)]
    plans = TextOverrides(temperature=preset.temperature)
    guided, unguided = (
        StageSettings(plan=plans, sketch=sketches) for sketches in (PaintOverrides(), PaintOverrides(text_guidance=1.0))
    )
    jobs = [
        partial(
            roll_out,
            prompt=prompt,
            rounds=len(graph.objects) + 2,
            seed=int(rng.integers(2**62)),
            settings=unguided if rng.random() < preset.unguided else guided,
        )
        for prompt, graph in drawn
    ]
    judges = annotator(rng)
    for trajectory in run_batched(painter, jobs, preset.width):
        yield from judged(trajectory, judges)


def roll_out(painter: Painter, prompt: str, rounds: int, seed: int, settings: StageSettings) -> Trajectory:
    return loop.run(painter, stages.begin(painter, prompt), rounds, seed=seed, settings=settings)


def judged(trajectory: Trajectory, annotator: Annotator[Reading]) -> Iterator[RoundSample]:
    """Training rounds of a process: each of its rounds with the critique and refinement it should have had, and the right
    plan wherever its own was another, also where it should have ended or did too early."""
    prompt, canvas, reading = trajectory.prompt, None, annotator.read(None)
    for round_ in trajectory.rounds:
        painted = store(round_.sketch.picture) if round_.sketch else None
        yield from _judged_round(prompt, canvas, reading, round_, painted, annotator)
        if round_.picture is None:
            return
        canvas = store(round_.refinement.picture) if round_.refinement and round_.refinement.picture else painted
        reading = annotator.read(round_.picture)
    yield from _proposed(prompt, canvas, annotator.propose(prompt, reading))


def _judged_round(
    prompt: str,
    canvas: StoredPicture | None,
    reading: Reading,
    round_: Round,
    painted: StoredPicture | None,
    annotator: Annotator[Reading],
) -> Iterator[RoundSample]:
    plan, sketch = round_.plan, round_.sketch
    annotation = annotator.annotate(prompt, plan, reading, annotator.read(sketch.picture)) if sketch else None
    if annotation is None or annotation.wanted is None:
        yield from _proposed(prompt, canvas, annotator.propose(prompt, reading))
    if annotation is not None:
        yield RoundSample(
            prompt, canvas, plan.instruction, plan.description, annotation.wanted is not None, annotation.wanted, painted,
            annotation.caption, annotation.explanation, annotation.correction, annotation.refined, annotation.kind,
        )  # fmt: skip


def _proposed(prompt: str, canvas: StoredPicture | None, proposal: Proposal | None) -> Iterator[RoundSample]:
    """The right plan for a canvas, and the picture that should follow."""
    if proposal is None:
        return
    if not proposal.instruction:
        yield RoundSample(prompt, canvas)
    else:
        said = (proposal.instruction, proposal.description)
        yield RoundSample(prompt, canvas, *said, sketch=proposal.drawing, kind="plan")


def store(picture: Picture) -> StoredPicture:
    assert picture.latents is not None
    pixels = np.asarray(picture.image.convert("RGB")).transpose(2, 0, 1)
    return StoredPicture(np.ascontiguousarray(pixels), picture.latents.astype(np.float16))

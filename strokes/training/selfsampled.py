"""Rounds of what a model really plans and paints, judged: the paper's instruction–intermediate conflicts and image–instruction
alignment. The model's canvases, plans and sketches are kept; what should have been said and painted is the expert's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..bagel.crowd import together
from ..bagel.painter import BagelPainter
from ..errors import StrokesError
from ..process import loop, stages
from ..process.painter import Picture, TextSettings
from ..process.trajectory import Round as Turn
from ..process.trajectory import Trajectory
from .checker import seen_in
from .expert import Seen, Step, compare, contradiction, describe, judge, mend, next_step
from .scene_graph import PromptMix, SceneGraph, read_prompt
from .shards import ShardSet, build
from .trajectories import Round, Stored, sample_prompt, with_verdict


@dataclass(frozen=True)
class SelfSampling:
    """How many processes are rolled out. Plans are sampled at ``temperature``, so that some are wrong."""

    processes: int = 4000
    shard: int = 200
    temperature: float = 0.8
    width: int = 64
    prompts: PromptMix = field(default_factory=PromptMix)


def build_selfsampled(
    folder: Path,
    painter: BagelPainter,
    weights: Path,
    preset: SelfSampling,
    seed: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> ShardSet:
    """Build the shards that are not there yet; they belong to the ``weights`` file behind the painter."""
    settings = {"weights": sha256(weights.read_bytes()).hexdigest(), "seed": seed, **asdict(preset)}
    shards = -(-preset.processes // preset.shard)
    build(folder, settings, shards, partial(_shard, painter, preset, seed), report)
    return ShardSet(folder)


def _shard(painter: BagelPainter, preset: SelfSampling, seed: int, shard: int) -> Iterator[Round]:
    rng = np.random.default_rng((seed, 2, shard))
    count = min(preset.shard, preset.processes - shard * preset.shard)
    drawn = [sample_prompt(rng, preset.prompts)[:2] for _ in range(count)]
    plans = replace(painter.profile.text, temperature=preset.temperature)
    jobs = [
        partial(roll_out, prompt=prompt, rounds=len(graph.objects) + 2, seed=int(rng.integers(2**62)), plans=plans)
        for prompt, graph in drawn
    ]
    for (_, graph), trajectory in zip(drawn, together(painter, jobs, preset.width), strict=True):
        yield from judged(trajectory, graph, rng)


def roll_out(painter: Any, prompt: str, rounds: int, seed: int, plans: TextSettings) -> Trajectory:
    return loop.run(painter, stages.begin(painter, prompt), rounds, seed=seed, plan_settings=plans)


def judged(trajectory: Trajectory, prompt: SceneGraph, rng: np.random.Generator) -> Iterator[Round]:
    """Training rounds of a process: each of its rounds with the critique and refinement it should have had, and the right
    plan wherever its own was another (also where it should have ended, or did too early)."""
    canvas, stored, seen = None, None, list[Seen]()
    for turn in trajectory.rounds:
        right = next_step(prompt, seen, rng)
        yield from _judged_turn(trajectory.prompt, prompt, stored, seen, turn, right, rng)
        canvas = turn.picture
        if canvas is None:
            return
        stored, seen = store(canvas), seen_in(canvas.image)
    if canvas is not None:
        yield from _expert_round(trajectory.prompt, stored, next_step(prompt, seen, rng))


def store(picture: Picture) -> Stored:
    assert picture.latents is not None
    pixels = np.asarray(picture.image.convert("RGB")).transpose(2, 0, 1)
    return Stored(np.ascontiguousarray(pixels), picture.latents.astype(np.float16))


def _judged_turn(
    words: str,
    prompt: SceneGraph,
    canvas: Stored | None,
    seen: Sequence[Seen],
    turn: Turn,
    right: Step | None,
    rng: np.random.Generator,
) -> Iterator[Round]:
    try:
        planned = read_prompt(turn.plan.description)
    except StrokesError:
        planned = None
    learn = (
        planned is not None and _as_good(turn.plan.instruction, right) and not contradiction(prompt, planned, seen)[0]
    )
    if not learn:
        yield from _expert_round(words, canvas, right)
    if planned is None or turn.sketch is None:
        return
    sketch = turn.sketch.picture
    found = seen_in(sketch.image)
    verdict = judge(prompt, planned, seen, found)
    wanted = None
    if learn and right is not None:
        same = turn.plan.instruction == right.instruction
        wanted = right.scene if same else mend(compare(verdict.graph, seen), rng)
    made = Round(
        words, canvas, turn.plan.instruction, turn.plan.description, learn, wanted, store(sketch),
        step=turn.plan.instruction.split(" ", 1)[0],
    )  # fmt: skip
    judged_round = with_verdict(made, verdict, found, rng)
    if judged_round is not None:
        yield judged_round


def _as_good(instruction: str, right: Step | None) -> bool:
    """Whether a plan does what the expert would do, who mends first and adds then, in any order."""
    if right is None:
        return False
    return instruction == right.instruction or (right.kind == "add" and instruction.startswith("add "))


def _expert_round(words: str, canvas: Stored | None, step: Step | None) -> Iterator[Round]:
    """The right plan for a canvas, and the picture that should follow."""
    if step is None:
        return
    if not step.instruction:
        yield Round(words, canvas)
    else:
        yield Round(
            words, canvas, step.instruction, describe(step.graph), sketch=step.scene, kind="plan", step=step.kind
        )

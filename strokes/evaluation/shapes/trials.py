"""What is kept of a painted prompt: a few numbers a round, judged from the pictures by the checker, and no picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import hypot

from ...errors import StrokesError
from ...process.trajectory import Cost, Round, Trajectory
from ...shapes.checker import detect
from ...shapes.compare import compare
from ...shapes.critic import STEP_WRONG, Judgement, judge
from ...shapes.drawing import COLOURS, KINDS, Detection, Shape
from ...shapes.language import read_prompt
from ...shapes.scene_graph import RELATIONS, SceneGraph

# A shape whose centre lies within so many pixels (at 64×64) of where it was is still there.
SAME_PLACE = 3.0


@dataclass(frozen=True)
class Drift:
    """Objects that an instruction does not touch: how many there were, how many are ``still`` there afterwards, and by
    how many pixels (at 64×64) the centres of these moved, in all."""

    objects: int = 0
    still: int = 0
    shift: float = 0.0


@dataclass(frozen=True)
class JudgedRound:
    """A round, judged. ``right`` is the checker's truth of the sketch, None where the plan's description cannot be read;
    ``complete`` whether the canvas should hold all of the prompt by then; ``fault`` what is wrong ("" where nothing is).

    ``refined`` is the truth of the repainted picture, None where nothing was repainted. ``drift`` compares the canvas
    with the sketch, ``refined_drift`` the sketch with the repainting.
    """

    right: bool | None
    complete: bool
    accepted: bool
    fault: str = ""
    critique: str = ""
    correction: str = ""
    refined: bool | None = None
    drift: Drift = Drift()
    refined_drift: Drift = Drift()


@dataclass(frozen=True)
class Trial:
    """A prompt (by its ``line``) of so many ``objects``, painted by one arm with one seed, and what the checker says of
    the last picture.

    ``pictures`` are those painted; ``ended`` says whether a process ended by itself, None where it had no choice.
    ``own_words`` counts critiques that should have been another prompt's, where no other prompt had one.
    """

    line: int
    objects: int
    seed: int
    arm: str
    right: bool
    reasons: tuple[str, ...]
    pictures: int
    cost: Cost
    ended: bool | None = None
    steps: tuple[JudgedRound, ...] = ()
    own_words: int = 0


def judge_rounds(trajectory: Trajectory, prompt: SceneGraph) -> tuple[JudgedRound, ...]:
    """Every inspected round of a process, judged; each picture is read once."""
    steps, canvas = [], list[Detection]()
    for done in trajectory.rounds:
        if done.sketch is None or done.critique is None:
            break
        sketch = detect(done.sketch.picture.image)
        repainted = done.refinement.picture if done.refinement else None
        refined = None if repainted is None else detect(repainted.image)
        steps.append(_judge(done, prompt, canvas, sketch, refined))
        canvas = sketch if refined is None else refined
    return tuple(steps)


def _judge(
    done: Round,
    prompt: SceneGraph,
    canvas: Sequence[Detection],
    sketch: Sequence[Detection],
    refined: Sequence[Detection] | None,
) -> JudgedRound:
    critique = done.critique
    assert critique
    said = (critique.explanation, critique.correction)
    try:
        planned = read_prompt(done.plan.description)
    except StrokesError:
        return JudgedRound(None, False, critique.accepted, "", *said)
    verdict = judge(prompt, planned, canvas, sketch)
    complete = len(verdict.graph.objects) == len(prompt.objects)
    right = not verdict.correction
    fault = "" if right else verdict.explanation
    drift = drifted(done.plan.instruction, planned, canvas, sketch)
    step = (right, complete, critique.accepted, fault, *said)
    if refined is None:
        return JudgedRound(*step, None, drift)
    after = drifted(critique.correction, planned, sketch, refined)
    return JudgedRound(*step, _mended(prompt, verdict, refined), drift, after)


def _mended(prompt: SceneGraph, verdict: Judgement, refined: Sequence[Detection]) -> bool:
    """Whether a repainting shows what the canvas should hold; where the plan contradicted the prompt, it may also paint
    more of the prompt than the plan spoke of."""
    if not compare(verdict.graph, refined).faults:
        return True
    if not verdict.explanation.startswith(STEP_WRONG):
        return False
    least, n = Counter(verdict.graph.objects), len(prompt.objects)
    parts = (prompt.subgraph(keep) for k in range(1, n + 1) for keep in combinations(range(n), k))
    return any(Counter(part.objects) >= least and not compare(part, refined).faults for part in parts)


_NAME = re.compile(rf"\b(?:{'|'.join(COLOURS)}) (?:{'|'.join(KINDS)})\b")
_PLACE = re.compile("|".join(RELATIONS))


def touched(instruction: str) -> set[str] | None:
    """Names of the shapes that an instruction changes: none where it only adds, None where it may mean all of them.

    What comes after a direction says where, and is not touched.
    """
    if instruction.startswith("add "):
        return set()
    return set(_NAME.findall(_PLACE.split(instruction)[0])) or None


def drifted(instruction: str, planned: SceneGraph, before: Sequence[Detection], after: Sequence[Detection]) -> Drift:
    """What became of the shapes that were clear before, are planned, and are not touched by the instruction."""
    names = touched(instruction)
    if names is None:
        return Drift()
    wanted = Counter(thing.name for thing in planned.objects)
    held = Counter(s.shape.name for s in before)
    # One too many of a name: which of them should go is open.
    stays = {name for name in held if held[name] <= wanted[name] and name not in names}
    old = [s.shape for s in before if s.clear and s.shape.name in stays]
    new = [s.shape for s in after if s.clear]
    pairs = ((a, b) for a, b in product(old, new) if a.name == b.name)
    used, shifts = set[Shape](), list[float]()
    for shift, a, b in sorted(((hypot(a.x - b.x, a.y - b.y), a, b) for a, b in pairs), key=lambda found: found[0]):
        if shift <= SAME_PLACE and not used & {a, b}:
            used |= {a, b}
            shifts.append(shift)
    return Drift(len(old), len(shifts), sum(shifts))

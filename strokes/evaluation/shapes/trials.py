"""Trials: what is kept of a painted prompt. Numbers and texts, judged from the pictures by the critic; no picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import hypot

from ...errors import StrokesError
from ...process.trajectory import Cost, Critique, Plan, Trajectory
from ...shapes.checker import detect
from ...shapes.compare import compare
from ...shapes.critic import STEP_WRONG, Judgement, judge
from ...shapes.drawing import COLOURS, KINDS, Detection, Shape
from ...shapes.language import read_prompt
from ...shapes.scene_graph import RELATIONS, SceneGraph

# Most pixels (at 64×64) by which the centre of a shape may move and the shape still count as the same one.
SAME_PLACE = 3.0


@dataclass(frozen=True)
class Drift:
    """The drift of the objects that an instruction does not touch: their number, how many are ``still`` there afterwards,
    and the sum of the distances (in pixels at 64×64) by which the centres of these moved."""

    objects: int = 0
    still: int = 0
    shift: float = 0.0


@dataclass(frozen=True, kw_only=True)
class JudgedRound:
    """An inspected round of a process, judged from its pictures.

    ``right`` says whether the critic finds no fault in the sketch, None where the plan's description cannot be read;
    ``fault`` is the fault, "" for none; ``complete`` says whether the canvas should hold all of the prompt by then.
    ``accepted``, ``margin``, ``critique`` and ``correction`` are the model's own inspection, ``margin`` None where it was
    not measured. ``refined`` says whether the repainted
    picture is right, None where nothing was repainted. ``drift`` is from the canvas to the sketch, ``refined_drift``
    from the sketch to the repainting.
    """

    right: bool | None
    complete: bool
    accepted: bool
    fault: str = ""
    critique: str = ""
    correction: str = ""
    margin: float | None = None
    refined: bool | None = None
    drift: Drift = Drift()
    refined_drift: Drift = Drift()

    @property
    def fixed(self) -> bool:
        """Whether repainting made a wrong picture right."""
        return self.right is False and self.refined is True

    @property
    def broken(self) -> bool:
        """Whether repainting made a right picture wrong."""
        return self.right is True and self.refined is False


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One painting of the benchmark: a prompt (``line`` of its file, number of ``objects``) by one arm with one seed, and
    the checker's answer for the last picture (``right``, ``reasons``).

    ``pictures`` is how many were painted; ``steps`` are the judged rounds. ``ended`` says whether a process ended by
    itself, None for arms that cannot. ``own_words`` counts rejections of the arm "shuffled" that kept their own
    critique, because no other prompt had one.
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
    """The inspected rounds of a process, judged in order. Each picture is read once."""
    judged, canvas = [], list[Detection]()
    for round_ in trajectory.rounds:
        if round_.plan is None or round_.sketch is None or round_.critique is None:
            break
        sketch = detect(round_.sketch.picture.image)
        repainted = round_.refinement.picture if round_.refinement else None
        refined = None if repainted is None else detect(repainted.image)
        judged.append(_judge(round_.plan, round_.critique, prompt, canvas, sketch, refined))
        canvas = sketch if refined is None else refined
    return tuple(judged)


def _judge(
    plan: Plan,
    critique: Critique,
    prompt: SceneGraph,
    canvas: Sequence[Detection],
    sketch: Sequence[Detection],
    refined: Sequence[Detection] | None,
) -> JudgedRound:
    judged = JudgedRound(
        right=None,
        complete=False,
        # Where there was no verdict at all, nothing was rejected.
        accepted=critique.accepted or (critique.unreadable and critique.margin is None),
        critique=critique.explanation,
        correction=critique.correction,
        margin=critique.margin,
    )
    try:
        planned = read_prompt(plan.description)
    except StrokesError:
        return judged
    judgement = judge(prompt, planned, canvas, sketch)
    right = not judgement.correction
    judged = replace(
        judged,
        right=right,
        complete=len(judgement.graph.objects) == len(prompt.objects),
        fault="" if right else judgement.explanation,
        drift=drifted(plan.instruction, planned, canvas, sketch),
    )
    if refined is None:
        return judged
    return replace(
        judged,
        refined=_mended(prompt, judgement, refined),
        refined_drift=drifted(critique.correction, planned, sketch, refined),
    )


def _mended(prompt: SceneGraph, judgement: Judgement, refined: Sequence[Detection]) -> bool:
    """Whether a repainting is right: it shows what the canvas should hold or, where the plan contradicted the prompt, any
    subgraph of the prompt with at least these objects."""
    if not compare(judgement.graph, refined).faults:
        return True
    if not judgement.explanation.startswith(STEP_WRONG):
        return False
    least, n = Counter(judgement.graph.objects), len(prompt.objects)
    subgraphs = (prompt.subgraph(keep) for k in range(1, n + 1) for keep in combinations(range(n), k))
    return any(Counter(graph.objects) >= least and not compare(graph, refined).faults for graph in subgraphs)


_NAME = re.compile(rf"\b(?:{'|'.join(COLOURS)}) (?:{'|'.join(KINDS)})\b")
_PLACE = re.compile("|".join(RELATIONS))


def touched(instruction: str) -> set[str] | None:
    """Names of the shapes that an instruction changes: the empty set where it only adds, None where it may change all.

    Names after a direction ("left of the …") only say where, and are left out.
    """
    if instruction.startswith("add "):
        return set()
    return set(_NAME.findall(_PLACE.split(instruction)[0])) or None


def drifted(instruction: str, planned: SceneGraph, before: Sequence[Detection], after: Sequence[Detection]) -> Drift:
    """The drift of the shapes that were clear ``before``, are planned, and are not touched by the instruction."""
    names = touched(instruction)
    if names is None:
        return Drift()
    wanted = Counter(thing.name for thing in planned.objects)
    held = Counter(s.shape.name for s in before)
    # Where there are more of a name than planned, any of them may go, so none of them counts.
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

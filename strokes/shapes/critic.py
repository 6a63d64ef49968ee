"""What someone who sees perfectly would say and do: the faults of a scene, how to mend them, and the next step.

It judges synthetic scenes and, through the checker's reading, a model's own pictures alike: one source for every plan,
critique and refinement that training asks for. A person, an image editor and a language model stand here for real pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .compare import COLOUR, EXTRA, KIND, MISSING, PLACE, Comparison, compare, mend
from .drawing import Detection, Scene, Shape
from .language import add_instruction
from .scene_graph import Object, SceneGraph

CORRECT_AND_COMPLETE = "the step is correct. nothing is missing."
CORRECT_SO_FAR = "the step is correct. the rest comes later."
PICTURE_WRONG = "the picture is wrong."
STEP_WRONG = "the step is wrong."


@dataclass(frozen=True)
class NextStep:
    """What to do next, and the canvas afterwards. ``instruction`` "" is the end of the process."""

    instruction: str
    graph: SceneGraph
    scene: Scene


@dataclass(frozen=True)
class Judgement:
    """A critique: why the step is right or wrong, the correction ("" where it is accepted), and what was ``found`` when the
    picture was held against what the canvas should hold."""

    explanation: str
    correction: str
    found: Comparison

    @property
    def graph(self) -> SceneGraph:
        """What the canvas should hold."""
        return self.found.graph

    @property
    def kind(self) -> str:
        if self.correction:
            return "wrong step" if self.explanation.startswith(STEP_WRONG) else "wrong picture"
        return "right" if self.explanation == CORRECT_AND_COMPLETE else "right but incomplete"


def next_step(
    graph: SceneGraph,
    seen: Sequence[Detection],
    rng: np.random.Generator,
    order: Sequence[int] | None = None,
    preferred: Sequence[Shape] = (),
) -> NextStep | None:
    """Mend what is wrong with the canvas, else add the next object of ``order`` (the prompt's where None), else end.

    None where there is no room for it.
    """
    found = compare(graph, seen, growing=True)
    growing = bool(found.present)
    if not growing:  # all that is there is wrong: it becomes the first object
        found = compare(graph, seen)
    if any(fault.what != MISSING for fault in found.faults):
        preferred = [preferred[i] for i in found.present] if preferred else ()
        found = compare(graph.subgraph(found.present), seen, growing)
        scene = mend(found, rng, preferred)
        return None if scene is None else NextStep(found.faults[0].correction, found.graph, scene)
    missing = [i for i in order or range(len(graph.objects)) if i not in found.present]
    if not missing:
        return NextStep("", graph, [found.kept[i] for i in range(len(graph.objects))])
    # Lay out all that is to come, so that this step leaves room for the next.
    whole = mend(found, rng, preferred)
    return None if whole is None else _addition(found, missing[0], whole)


def additions(graph: SceneGraph, seen: Sequence[Detection], rng: np.random.Generator) -> list[NextStep]:
    """Every step that may come next on a canvas without faults, whatever the order."""
    found = compare(graph, seen, growing=True)
    whole = mend(found, rng)
    missing = (i for i in range(len(graph.objects)) if i not in found.present)
    return [] if whole is None else [_addition(found, i, whole) for i in missing]


def _addition(found: Comparison, i: int, whole: Scene) -> NextStep:
    after = sorted((*found.present, i))
    instruction = add_instruction(found.graph, i, found.present)
    return NextStep(instruction, found.graph.subgraph(after), [whole[j] for j in after])


def contradiction(prompt: SceneGraph, planned: SceneGraph, canvas: Sequence[Detection]) -> tuple[str, SceneGraph]:
    """What is wrong with a plan ("" where nothing is), and the part of the prompt that it should have spoken of."""
    named, conflict = _indexes(prompt, planned)
    spoken = Counter(prompt.objects[i] for i in named)
    # What shares nothing with the prompt is no attempt at it: to take it away is no contradiction.
    drawn = Counter(prompt.objects[i] for i in compare(prompt, canvas, growing=True).present)
    if drawn - spoken:
        conflict = conflict or MISSING
    return conflict, prompt.subgraph(_first(prompt, spoken | drawn))


def judge(
    prompt: SceneGraph, planned: SceneGraph, canvas: Sequence[Detection], sketch: Sequence[Detection]
) -> Judgement:
    """The critique of a sketch made for a plan: does the plan contradict the prompt, or the picture the plan?

    What the prompt asks and neither the plan nor the ``canvas`` before it holds is not drawn yet, and no error.
    """
    conflict, corrected = contradiction(prompt, planned, canvas)
    found = compare(corrected, sketch)
    if faults := found.faults:
        what = f"{STEP_WRONG} {conflict}" if conflict else f"{PICTURE_WRONG} {faults[0].what}"
        return Judgement(what, faults[0].correction, found)
    complete = len(corrected.objects) == len(prompt.objects)
    return Judgement(CORRECT_AND_COMPLETE if complete else CORRECT_SO_FAR, "", found)


def _first(graph: SceneGraph, due: Counter[Object]) -> list[int]:
    """The first objects of a graph that make up ``due``."""
    seen: Counter[Object] = Counter()
    out = []
    for i, thing in enumerate(graph.objects):
        if seen[thing] < due[thing]:
            out.append(i)
        seen[thing] += 1
    return out


def _indexes(prompt: SceneGraph, planned: SceneGraph) -> tuple[list[int], str]:
    """Which objects of the prompt a plan speaks of, and how it contradicts the prompt ("" where it does not)."""
    left, match, conflict = list(range(len(prompt.objects))), dict[int, int](), ""
    for fits, what in (
        (lambda a, b: a == b, ""),
        (lambda a, b: a.kind == b.kind, COLOUR),
        (lambda a, b: a.colour == b.colour, KIND),
    ):
        for p, thing in enumerate(planned.objects):
            same = [i for i in left if fits(thing, prompt.objects[i])]
            if p not in match and same:
                match[p], conflict = same[0], conflict or what
                left.remove(same[0])
    if len(match) < len(planned.objects):
        conflict = conflict or EXTRA
    asked = {(r.subject, r.object): r.name for r in prompt.relations}
    asked |= {(i.subject, i.object): i.name for i in (r.inverted() for r in prompt.relations)}
    for r in planned.relations:
        pair = (match.get(r.subject, -1), match.get(r.object, -1))
        if asked.get(pair, r.name) != r.name:
            conflict = conflict or PLACE
    return list(match.values()), conflict

"""The rule-based critic: the critique of a sketch (:func:`judge`), and the next instruction for a canvas (:func:`next_step`).

Both take scenes as lists of detections: of synthetic scenes, or what the checker reads in a model's own pictures. Every
plan, critique and refinement that the embedded model is trained on comes from here.
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
    """An instruction, and the graph and scene of the canvas after it. ``instruction`` "" is the end of the process."""

    instruction: str
    graph: SceneGraph
    scene: Scene


@dataclass(frozen=True)
class Judgement:
    """The critique of a sketch: why it is right or wrong, the correction ("" where it is accepted), and the comparison
    (``found``) of the sketch with what the canvas should hold."""

    explanation: str
    correction: str
    found: Comparison

    @property
    def graph(self) -> SceneGraph:
        """What the canvas should hold."""
        return self.found.graph

    @property
    def kind(self) -> str:
        """ "right", "right but incomplete", "wrong step" or "wrong picture"."""
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
    """The next step on a canvas that shows ``seen``: mend its faults, else add the next missing object in ``order`` (the
    prompt's where None), else end. ``preferred`` is where each object of the graph goes when it is placed.

    None where the step finds no room.
    """
    found = compare(graph, seen, growing=True)
    growing = bool(found.present)
    if not growing:  # nothing shown has a colour or kind of the prompt: the first correction turns it into an object
        found = compare(graph, seen)
    if any(fault.what != MISSING for fault in found.faults):
        preferred = [preferred[i] for i in found.present] if preferred else ()
        found = compare(graph.subgraph(found.present), seen, growing)
        scene = mend(found, rng, preferred)
        return None if scene is None else NextStep(found.faults[0].correction, found.graph, scene)
    missing = [i for i in order or range(len(graph.objects)) if i not in found.present]
    if not missing:
        return NextStep("", graph, [found.kept[i] for i in range(len(graph.objects))])
    # The whole graph is laid out, so that this step leaves room for the next ones.
    whole = mend(found, rng, preferred)
    return None if whole is None else _addition(found, missing[0], whole)


def additions(graph: SceneGraph, seen: Sequence[Detection], rng: np.random.Generator) -> list[NextStep]:
    """Every step that adds one missing object to a canvas without faults; none where they find no room."""
    found = compare(graph, seen, growing=True)
    whole = mend(found, rng)
    missing = (i for i in range(len(graph.objects)) if i not in found.present)
    return [] if whole is None else [_addition(found, i, whole) for i in missing]


def _addition(found: Comparison, i: int, whole: Scene) -> NextStep:
    after = sorted((*found.present, i))
    instruction = add_instruction(found.graph, i, found.present)
    return NextStep(instruction, found.graph.subgraph(after), [whole[j] for j in after])


def contradiction(prompt: SceneGraph, planned: SceneGraph, canvas: Sequence[Detection]) -> tuple[str, SceneGraph]:
    """How a plan contradicts the prompt (a sentence of :mod:`.compare`, "" where it does not), and the subgraph of the prompt
    that it should have described: the objects that it names or the canvas already shows."""
    named, conflict = _indexes(prompt, planned)
    spoken = Counter(prompt.objects[i] for i in named)
    # A shape that shares neither colour nor kind with the prompt may be taken away without contradicting it.
    drawn = Counter(prompt.objects[i] for i in compare(prompt, canvas, growing=True).present)
    if drawn - spoken:
        conflict = conflict or MISSING
    return conflict, prompt.subgraph(_first(prompt, spoken | drawn))


def judge(
    prompt: SceneGraph, planned: SceneGraph, canvas: Sequence[Detection], sketch: Sequence[Detection]
) -> Judgement:
    """The critique of a ``sketch`` that was made for the plan ``planned`` on the ``canvas`` before it.

    Where the sketch is wrong, the critique blames the plan if that contradicts the prompt, else the picture. Objects of
    the prompt that neither the plan names nor the canvas shows are still to come, and no fault.
    """
    conflict, corrected = contradiction(prompt, planned, canvas)
    found = compare(corrected, sketch)
    if faults := found.faults:
        what = f"{STEP_WRONG} {conflict}" if conflict else f"{PICTURE_WRONG} {faults[0].what}"
        return Judgement(what, faults[0].correction, found)
    complete = len(corrected.objects) == len(prompt.objects)
    return Judgement(CORRECT_AND_COMPLETE if complete else CORRECT_SO_FAR, "", found)


def _first(graph: SceneGraph, due: Counter[Object]) -> list[int]:
    """The lowest indexes of a graph's objects that make up the multiset ``due``."""
    seen: Counter[Object] = Counter()
    out = []
    for i, thing in enumerate(graph.objects):
        if seen[thing] < due[thing]:
            out.append(i)
        seen[thing] += 1
    return out


def _indexes(prompt: SceneGraph, planned: SceneGraph) -> tuple[list[int], str]:
    """Indexes of the prompt's objects that a plan names, and how it contradicts the prompt ("" where it does not)."""
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

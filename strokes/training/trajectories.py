"""Step-wise trajectories in the paper's format: growing subgraphs, their steps, and critiques of right and wrong sketches.

A round is one training sample: the prompt, the canvas so far, the plan, the sketch, the critique and the refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .scene_graph import (
    RELATIONS,
    Object,
    PromptMix,
    Relation,
    SceneGraph,
    article,
    sample_layout,
    sample_scene,
    write_prompt,
)
from .shapes import COLOURS, KINDS, UNIT, Shape

Scene = list[Shape]

CORRECT_AND_COMPLETE = "the step is correct. nothing is missing."
CORRECT_SO_FAR = "the step is correct. the rest comes later."
PICTURE_WRONG = "the picture is wrong. {}"
STEP_WRONG = "the step is wrong. {}"


@dataclass(frozen=True)
class Round:
    """One round. ``instruction`` "" is the end of the process; ``refined`` is None where the sketch is right.

    ``sketch`` is what should be painted, ``seen`` what the critique looks at. A plan with ``conflict`` contradicts the
    prompt: it is read, and never learned.
    """

    prompt: str
    canvas: Scene | None
    instruction: str = ""
    description: str = ""
    conflict: bool = False
    sketch: Scene | None = None
    seen: Scene | None = None
    explanation: str = ""
    correction: str = ""
    refined: Scene | None = None


@dataclass(frozen=True)
class RoundMix:
    """Shares: wrong sketches, plans against the prompt, canvases with a left-over error, orders other than the prompt's."""

    wrong: float = 0.42
    conflict: float = 0.08
    damaged_canvas: float = 0.12
    shuffled: float = 0.1


def _relate(graph: SceneGraph, i: int, present: Sequence[int]) -> str:
    """`` left of the blue square and above the …``: what object ``i`` is asked to be to those present."""
    parts = []
    for r in graph.relations:
        r = r.inverted() if r.object == i else r
        if r.subject == i and r.object in present:
            parts.append(f" {r.name} the {graph.objects[r.object].name}")
    return " and".join(parts)


def add_instruction(graph: SceneGraph, i: int, present: Sequence[int]) -> str:
    return f"add {article(graph.objects[i].name)}{_relate(graph, i, present)}"


def _other(rng: np.random.Generator, choices: Sequence[str], not_this: str) -> str:
    left = [c for c in choices if c != not_this]
    return left[rng.integers(len(left))]


def recolour(rng: np.random.Generator, shape: Shape) -> tuple[Shape, str]:
    """A shape with another colour (or, as often, another kind) and what is wrong with it."""
    if rng.random() < 0.5:
        return replace(shape, colour=_other(rng, COLOURS, shape.colour)), "a colour is wrong."
    return replace(shape, kind=_other(rng, KINDS, shape.kind)), "a shape is wrong."


def damage(rng: np.random.Generator, graph: SceneGraph, shapes: Scene, i: int) -> tuple[Scene, str, str] | None:
    """A wrong version of a scene with an error at object ``i``: (scene, what is wrong, corrective instruction)."""
    shape, others = shapes[i], [j for j in range(len(shapes)) if j != i]
    related = [r for r in graph.relations if i in (r.subject, r.object)]
    kind = rng.choice(["recolour", "missing", "extra", "unclear", "place"], p=[0.34, 0.14, 0.12, 0.12, 0.28])
    if kind == "recolour":
        other, what = recolour(rng, shape)
        return [*shapes[:i], other, *shapes[i + 1 :]], what, f"change the {other.name} to {article(shape.name)}"
    if kind == "missing":
        return [shapes[j] for j in others], "a shape is missing.", add_instruction(graph, i, others)
    if kind == "extra":
        extra = Object(COLOURS[rng.integers(len(COLOURS))], KINDS[rng.integers(len(KINDS))])
        placed = sample_layout(SceneGraph((*graph.objects[: len(shapes)], extra)), rng, shapes)
        return None if placed is None else (placed, "a shape is too many.", f"remove the {extra.name}")
    if kind == "unclear":
        return [*shapes, _blot(rng, shape, shapes)], "a shape is not clear.", f"paint the {shape.name} again"
    if not related:
        return None
    r = related[rng.integers(len(related))]
    # The same objects with i last, so that only i is placed anew, on any wrong side.
    order = [*others, i]
    at = {old: new for new, old in enumerate(order)}
    names = [n for n in RELATIONS if n != r.name]
    wrong = Relation(at[r.subject], names[rng.integers(3)], at[r.object])
    moved = sample_layout(
        SceneGraph(tuple(graph.objects[j] for j in order), (wrong,)), rng, [shapes[j] for j in others]
    )
    correction = f"move the {shape.name}{_relate(graph, i, others)}"
    if moved is None:
        return None
    return [moved[at[j]] for j in range(len(shapes))], "a place is wrong.", correction


def _blot(rng: np.random.Generator, shape: Shape, shapes: Scene) -> Shape:
    """Something painted half over a shape: another shape's colour or kind, as models blend neighbours."""
    donor = shapes[rng.integers(len(shapes))]
    colour = donor.colour if rng.random() < 0.5 else COLOURS[rng.integers(len(COLOURS))]
    kind = donor.kind if rng.random() < 0.5 else KINDS[rng.integers(len(KINDS))]
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(4, 9)
    away = np.array([np.cos(angle), np.sin(angle)]) * distance
    x, y = (float(c) for c in np.clip((shape.x, shape.y) + away, 10, UNIT - 10))
    return Shape(colour, kind, x, y, shape.r)


def sample_round(rng: np.random.Generator, prompts: PromptMix, mix: RoundMix) -> Round:
    """A round of a random process for a random prompt."""
    graph, shapes = sample_scene(rng, prompts)
    prompt = write_prompt(graph, long_forms=rng.random() < 0.25)
    n = len(graph.objects)
    order = list(range(n)) if rng.random() >= mix.shuffled else list(rng.permutation(n))
    k = int(rng.integers(0, n + 1))
    present, canvas = order[:k], [shapes[i] for i in order[:k]]
    sub = graph.subgraph(present)

    if k and rng.random() < mix.damaged_canvas and (bad := damage(rng, sub, canvas, int(rng.integers(k)))):
        # An error that an earlier inspection missed is mended by the next plan.
        return _inspected(rng, mix, graph, sub, prompt, bad[0], bad[2], canvas, k == n, int(rng.integers(k)))
    if k == n:
        return Round(prompt, canvas)
    step = add_instruction(graph, order[k], present)
    after = graph.subgraph(order[: k + 1])
    target = [*canvas, shapes[order[k]]]
    if rng.random() < mix.conflict:
        return _conflicting(rng, prompt, after, canvas or None, target)
    return _inspected(rng, mix, graph, after, prompt, canvas or None, step, target, k + 1 == n, k)


def _inspected(
    rng: np.random.Generator,
    mix: RoundMix,
    graph: SceneGraph,
    after: SceneGraph,
    prompt: str,
    canvas: Scene | None,
    step: str,
    target: Scene,
    complete: bool,
    focus: int,
) -> Round:
    """A round whose plan is right; its sketch is right, or wrong most often in what the step touched."""
    right = Round(
        prompt, canvas, step, write_prompt(after), sketch=target, seen=target,
        explanation=CORRECT_AND_COMPLETE if complete else CORRECT_SO_FAR,
    )  # fmt: skip
    if rng.random() >= mix.wrong:
        return right
    where = focus if rng.random() < 0.75 else int(rng.integers(len(target)))
    bad = damage(rng, after, target, where)
    if bad is None:
        return right
    return replace(right, seen=bad[0], explanation=PICTURE_WRONG.format(bad[1]), correction=bad[2], refined=target)


def _conflicting(
    rng: np.random.Generator, prompt: str, after: SceneGraph, canvas: Scene | None, target: Scene
) -> Round:
    """A plan against the prompt, faithfully painted: a wrong colour or kind in the new object."""
    wrong, what = recolour(rng, target[-1])
    last = len(target) - 1
    planned = SceneGraph((*after.objects[:-1], Object(wrong.colour, wrong.kind)), after.relations)
    painted = [*target[:-1], wrong]
    return Round(
        prompt, canvas, add_instruction(planned, last, range(last)), _describe(planned), True, painted, painted,
        STEP_WRONG.format(what), f"change the {wrong.name} to {article(target[-1].name)}", target,
    )  # fmt: skip


def _describe(graph: SceneGraph) -> str:
    """A description of a planned graph, whose objects may have become alike."""
    if graph.relations and len(set(graph.objects)) < len(graph.objects):
        graph = SceneGraph(graph.objects)
    return write_prompt(graph)

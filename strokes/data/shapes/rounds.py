"""Synthetic samples of the shapes world: one-shot pictures, and rounds of the process in the paper's format.

A round adds an object of a growing subgraph, or mends an error; its sketch is right or wrong, with the critique. Scenes
and errors are drawn at random here; :mod:`..rollouts` makes rounds of what a model really paints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...shapes.compare import mend, object_of
from ...shapes.critic import Judgement, NextStep, judge, next_step
from ...shapes.drawing import COLOURS, KINDS, UNIT, Detection, Scene, Shape, detections
from ...shapes.language import WHOLE, add_instruction, describe
from ...shapes.layout import sample_layout
from ...shapes.sampling import PromptMix, sample_prompt
from ...shapes.scene_graph import RELATIONS, Object, Relation, SceneGraph, holds
from ...shapes.splits import HELD_OUT_PAIRS, held_out, nameable, reserved
from ..samples import OneShotSample, RoundSample


@dataclass(frozen=True, kw_only=True)
class RoundMix:
    """Probabilities of the kinds of rounds.

    wrong: the sketch is wrong.
    conflict: the plan contradicts the prompt.
    damaged_canvas: the canvas holds an error, which a change, move, swap or removal mends.
    shuffled: the objects come in another order than the prompt's.
    whole: the whole picture is painted in one round.
    finished: nothing is left to add.
    inspected: False leaves out critiques, wrong sketches and contradicting plans.
    """

    wrong: float = 0.4
    conflict: float = 0.08
    damaged_canvas: float = 0.22
    shuffled: float = 0.1
    whole: float = 0.06
    finished: float = 0.2
    inspected: bool = True


def sample_one_shot(rng: np.random.Generator, prompts: PromptMix) -> OneShotSample:
    """A random prompt and a scene that fulfils it."""
    prompt, _, shapes = sample_prompt(rng, prompts)
    return OneShotSample(prompt, shapes)


def growing_order(graph: SceneGraph, rng: np.random.Generator) -> list[int]:
    """Object numbers in a random order, each after an object that it is related to, where there is one left."""
    order: list[int] = []
    left = set(range(len(graph.objects)))
    while left:
        near = {i for r in graph.relations for i in (r.subject, r.object) if {r.subject, r.object} & set(order)} & left
        choices = sorted(near or left)
        order.append(choices[rng.integers(len(choices))])
        left.remove(order[-1])
    return order


def sample_round(rng: np.random.Generator, prompts: PromptMix, mix: RoundMix) -> RoundSample:
    """A round of a random process for a random prompt."""
    while True:
        prompt, graph, shapes = sample_prompt(rng, prompts)
        for _ in range(8):  # an error that finds no room here is not left out for good
            made = _round(rng, mix, prompt, graph, shapes)
            if made is not None:
                return made


def _round(
    rng: np.random.Generator, mix: RoundMix, prompt: str, graph: SceneGraph, shapes: Scene
) -> RoundSample | None:
    n = len(graph.objects)
    if n > 1 and rng.random() < mix.whole:
        return _inspected(rng, mix, prompt, graph, None, NextStep(WHOLE, graph, shapes))
    order = growing_order(graph, rng) if rng.random() < mix.shuffled else list(range(n))
    k = n if rng.random() < mix.finished else int(rng.integers(n))
    drawn = sorted(order[:k])
    canvas, seen = [shapes[i] for i in drawn], detections([shapes[i] for i in drawn])
    if k and rng.random() < mix.damaged_canvas:
        bad = damage(rng, graph.subgraph(drawn), canvas, int(rng.integers(k)))
        if bad is None:
            return None
        canvas, seen = bad
    elif k < n and mix.inspected and rng.random() < mix.conflict:
        return _conflicting(rng, prompt, graph, drawn, order[k], shapes)
    target = next_step(graph, seen, rng, order, shapes)
    if target is None or reserved(target.graph):
        return None
    if not target.instruction:
        return RoundSample(prompt=prompt, canvas=canvas)
    return _inspected(rng, mix, prompt, graph, canvas or None, target)


def _inspected(
    rng: np.random.Generator, mix: RoundMix, prompt: str, graph: SceneGraph, canvas: Scene | None, target: NextStep
) -> RoundSample | None:
    """A round with the right plan ``target`` and a right or wrong sketch; three of four errors are in what the plan
    touches. None where an error finds no room."""
    made = RoundSample(
        prompt=prompt,
        canvas=canvas,
        instruction=target.instruction,
        description=describe(target.graph),
        sketch=target.scene,
        kind="plan",
    )
    if not mix.inspected:
        return made
    seen, shown = detections(target.scene), target.scene
    if rng.random() < mix.wrong:
        touched = [i for i, shape in enumerate(target.scene) if shape not in (canvas or ())]
        among = touched if touched and rng.random() < 0.75 else range(len(target.scene))
        bad = damage(rng, target.graph, target.scene, int(rng.choice(among)))
        if bad is None:
            return None
        shown, seen = bad
    return with_judgement(replace(made, seen=shown), judge(graph, target.graph, [], seen), rng, target.scene)


def with_judgement(
    made: RoundSample, judgement: Judgement, rng: np.random.Generator, preferred: Sequence[Shape | None] = ()
) -> RoundSample | None:
    """The round with a judgement as its critique and, where that corrects something, the refined scene; None where the
    refined scene finds no room."""
    made = replace(
        made,
        caption=caption_of(judgement),
        explanation=judgement.explanation,
        correction=judgement.correction,
        kind=judgement.kind,
    )
    if not judgement.correction:
        return made
    refined = mend(judgement.found, rng, preferred)
    return None if refined is None else replace(made, refined=refined)


def caption_of(judgement: Judgement) -> str:
    """The caption of a judged picture; "" where it shows what training may not name."""
    found = judgement.found
    named = nameable(found.clear_graph) and not HELD_OUT_PAIRS.intersection(found.unclear)
    return found.caption if named else ""


def _conflicting(
    rng: np.random.Generator, prompt: str, graph: SceneGraph, drawn: list[int], new: int, shapes: Scene
) -> RoundSample | None:
    """A round whose plan contradicts the prompt in the object ``new``, and whose sketch follows the plan: a wrong colour,
    kind or place, or another object. None where it finds no room, or may not be trained on."""
    present = [*drawn, new]
    right = graph.subgraph(present)
    last = len(present) - 1
    at = [shapes[i] for i in present]
    related = [r for r in right.relations if last in (r.subject, r.object)]
    kind = rng.choice(["recolour", "place", "extra"], p=[0.4, 0.4, 0.2])
    if kind == "place" and related:
        wrong = related[rng.integers(len(related))]
        turned = replace(wrong, name=_other(rng, RELATIONS, wrong.name))
        planned = SceneGraph(right.objects, tuple(turned if r == wrong else r for r in right.relations))
        painted = sample_layout(planned, rng, at[:-1])
    elif kind == "extra":
        planned = SceneGraph((*right.objects[:-1], _any_object(rng)), graph.subgraph(drawn).relations)
        painted = sample_layout(planned, rng, at[:-1])
    else:
        other = recolour(rng, at[-1])
        planned = SceneGraph((*right.objects[:-1], object_of(other)), right.relations)
        painted = [*at[:-1], other]
    if painted is None or len(set(planned.objects)) < len(planned.objects) and planned.relations:
        return None
    if any(held_out(r, planned.objects) for r in planned.relations):
        return None
    canvas = [shapes[i] for i in drawn]
    judgement = judge(graph, planned, detections(canvas), detections(painted))
    if not judgement.correction:  # by chance the plan is one that the prompt allows
        return None
    if reserved(planned) or reserved(judgement.graph):
        return None
    instruction = add_instruction(planned, last, range(last))
    made = RoundSample(
        prompt=prompt,
        canvas=canvas or None,
        instruction=instruction,
        description=describe(planned),
        learn_plan=False,
        sketch=painted,
        seen=painted,
    )
    preferred = {graph.objects[i]: shapes[i] for i in present}
    placed = [preferred.get(thing) for thing in judgement.graph.objects]
    return with_judgement(made, judgement, rng, placed)


def _other(rng: np.random.Generator, choices: Sequence[str], not_this: str) -> str:
    left = [c for c in choices if c != not_this]
    return left[rng.integers(len(left))]


def _any_object(rng: np.random.Generator) -> Object:
    while True:
        thing = Object(COLOURS[rng.integers(len(COLOURS))], KINDS[rng.integers(len(KINDS))])
        if thing not in HELD_OUT_PAIRS:
            return thing


def recolour(rng: np.random.Generator, shape: Shape) -> Shape:
    """The shape in another colour or, as often, of another kind; never a held-out pair."""
    while True:
        if rng.random() < 0.5:
            other = replace(shape, colour=_other(rng, COLOURS, shape.colour))
        else:
            other = replace(shape, kind=_other(rng, KINDS, shape.kind))
        if object_of(other) not in HELD_OUT_PAIRS:
            return other


def damage(rng: np.random.Generator, graph: SceneGraph, shapes: Scene, i: int) -> tuple[Scene, list[Detection]] | None:
    """A scene with an error at object ``i``, and its detections; None where the error finds no room."""
    shape, others = shapes[i], [j for j in range(len(shapes)) if j != i]
    related = [r for r in graph.relations if i in (r.subject, r.object)]
    kinds = ["recolour", "missing", "extra", "unclear", *(["place", "swap"] if related else [])]
    shares = np.array([0.3, 0.14, 0.16, 0.14, 0.9, 0.3][: len(kinds)])
    kind = rng.choice(kinds, p=shares / shares.sum())
    if kind == "unclear":
        blot = _blot(rng, shape, shapes)
        return [*shapes, blot], [Detection(s, clear=s is not shape) for s in shapes]
    if kind == "recolour":
        bad: Scene | None = [*shapes[:i], recolour(rng, shape), *shapes[i + 1 :]]
    elif kind == "missing":
        bad = [shapes[j] for j in others]
    elif kind == "extra":
        # Most often one more of what is there already: what models do.
        extra = graph.objects[rng.integers(len(shapes))] if rng.random() < 0.6 else _any_object(rng)
        bad = sample_layout(SceneGraph((*graph.objects, extra)), rng, shapes)
    elif kind == "swap":
        r = related[rng.integers(len(related))]
        a, b = shapes[r.subject], shapes[r.object]
        bad = list(shapes)
        bad[r.subject], bad[r.object] = a.at(b.x, b.y), b.at(a.x, a.y)
    else:
        bad = _elsewhere(rng, graph, shapes, i, related[rng.integers(len(related))])
    return None if bad is None else (bad, detections(bad))


_A_LITTLE = ((-1.5, 0.0), (1.5, 0.0), (0.0, -1.5), (0.0, 1.5))


def _elsewhere(rng: np.random.Generator, graph: SceneGraph, shapes: Scene, i: int, r: Relation) -> Scene | None:
    """The scene with object ``i`` moved to where relation ``r`` is broken; None where there is no room."""
    order = [*(j for j in range(len(shapes)) if j != i), i]
    alone, fixed = SceneGraph(tuple(graph.objects[j] for j in order)), [shapes[j] for j in order[:-1]]
    for _ in range(8):
        laid = sample_layout(alone, rng, fixed, candidates=32)
        if laid is None:
            continue
        moved = [laid[order.index(j)] for j in range(len(shapes))]
        a, b = moved[r.subject], moved[r.object]
        # Whoever reads a centre a pixel off should still see it.
        if not any(holds(r.name, (a.x + dx, a.y + dy), (b.x, b.y)) for dx, dy in _A_LITTLE):
            return moved
    return None


def _blot(rng: np.random.Generator, shape: Shape, shapes: Scene) -> Shape:
    """A shape that covers half of another; its colour or kind is that of some shape there, as models blend neighbours."""
    donor, other = shapes[rng.integers(len(shapes))], _any_object(rng)
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(4, 9)
    away = np.array([np.cos(angle), np.sin(angle)]) * distance
    x, y = (float(c) for c in np.clip((shape.x, shape.y) + away, 10, UNIT - 10))
    mixed = Object(
        donor.colour if rng.random() < 0.5 else other.colour, donor.kind if rng.random() < 0.5 else other.kind
    )
    taken = other if mixed in HELD_OUT_PAIRS else mixed
    return Shape(colour=taken.colour, kind=taken.kind, x=x, y=y, r=shape.r)

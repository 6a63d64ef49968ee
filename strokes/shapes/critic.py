"""What someone who sees perfectly would say and do: the faults of a scene, how to mend them, and the next step.

It judges synthetic scenes and, through the checker's reading, a model's own pictures alike: one source for every plan,
critique and refinement that training asks for. A person, an image editor and a language model stand here for real pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from .drawing import GAP, Scene, Shape, apart, inside_canvas
from .scene_graph import RELATIONS, Object, Relation, SceneGraph, article, holds, sample_layout, write_prompt

CORRECT_AND_COMPLETE = "the step is correct. nothing is missing."
CORRECT_SO_FAR = "the step is correct. the rest comes later."
PICTURE_WRONG = "the picture is wrong."
STEP_WRONG = "the step is wrong."
COLOUR, KIND, MISSING, EXTRA, PLACE, UNCLEAR = (
    "a colour is wrong.",
    "a shape is wrong.",
    "a shape is missing.",
    "a shape is too many.",
    "a place is wrong.",
    "a shape is not clear.",
)


@dataclass(frozen=True)
class Seen:
    """A shape as it is seen; not ``clear`` where it ran together with something or lost its outline."""

    shape: Shape
    clear: bool = True


@dataclass(frozen=True)
class Fault:
    """``what`` is wrong, one of the six sentences above, and the instruction that mends it."""

    what: str
    correction: str


@dataclass(frozen=True)
class Comparison:
    """A scene held against a graph. ``matched`` says which shape stands for which object, and ``extra`` are those that stand
    for none; ``kept`` are the shapes that stay where they are, as they will be once mended, by object."""

    graph: SceneGraph
    matched: dict[int, Seen]
    extra: tuple[Seen, ...]
    kept: dict[int, Shape]
    faults: tuple[Fault, ...]

    @property
    def present(self) -> tuple[int, ...]:
        """The objects that are there, also those that have to be placed anew."""
        return tuple(self.matched)

    @property
    def again(self) -> dict[int, Shape]:
        """What is not clear, painted again where it lies."""
        return {i: _turned_into(s.shape, self.graph.objects[i]) for i, s in self.matched.items() if not s.clear}

    @property
    def seen(self) -> SceneGraph:
        """The clear shapes, in the order of what is wanted, with the sides on which those lie that were asked to lie on one."""
        clear = {i: s.shape for i, s in self.matched.items() if s.clear}
        every = [*clear.values(), *(s.shape for s in self.extra if s.clear)]
        place = {i: n for n, i in enumerate(clear)}
        relations = []
        for r in self.graph.relations:
            if r.subject in clear and r.object in clear:
                a, b = clear[r.subject], clear[r.object]
                side = next((name for name in (r.name, *RELATIONS) if holds(name, (a.x, a.y), (b.x, b.y))), None)
                relations += [Relation(place[r.subject], side, place[r.object])] if side else []
        return SceneGraph(tuple(map(object_of, every)), tuple(relations))

    @property
    def unclear(self) -> tuple[Object, ...]:
        return tuple(object_of(s.shape) for s in (*self.matched.values(), *self.extra) if not s.clear)

    @property
    def sight(self) -> str:
        """What is seen, in the words of a description."""
        seen = self.seen
        parts = [describe(seen)] if seen.objects else []
        parts += [f"{article(thing.name)} not clear" for thing in self.unclear]
        return " and ".join(parts) or "nothing"


@dataclass(frozen=True)
class Step:
    """What to do next, and the canvas afterwards. ``instruction`` "" is the end of the process."""

    instruction: str
    graph: SceneGraph
    scene: Scene


@dataclass(frozen=True)
class Verdict:
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


def seen_as(scene: Sequence[Shape]) -> list[Seen]:
    return [Seen(shape) for shape in scene]


def describe(graph: SceneGraph) -> str:
    """The prompt of a graph; where objects became alike, relations have no name to take them up by and are left out."""
    alike = len(set(graph.objects)) < len(graph.objects)
    return write_prompt(SceneGraph(graph.objects) if alike else graph)


def add_instruction(graph: SceneGraph, i: int, present: Collection[int]) -> str:
    return f"add {article(graph.objects[i].name)}{_where(graph, i, present)}"


def _where(graph: SceneGraph, i: int, present: Collection[int]) -> str:
    """`` left of the blue square and above the …``: what object ``i`` is asked to be to those present."""
    parts = []
    for r in graph.relations:
        r = r.inverted() if r.object == i else r
        if r.subject == i and r.object in present:
            parts.append(f" {r.name} the {graph.objects[r.object].name}")
    return " and".join(parts)


# Which shape may stand for which object: the right ones first, then what lost its outline, then the wrong ones.
_MATCHES: tuple[Callable[[Seen, Object], bool], ...] = (
    lambda seen, thing: seen.clear and seen.shape.name == thing.name,
    lambda seen, thing: not seen.clear and seen.shape.colour == thing.colour,
    lambda seen, thing: seen.clear and seen.shape.kind == thing.kind,
    lambda seen, thing: seen.clear and seen.shape.colour == thing.colour,
    lambda seen, thing: True,
)


def compare(graph: SceneGraph, seen: Sequence[Seen], growing: bool = False) -> Comparison:
    """Match every shape with an object of the graph and name the faults: wrong ones, extra, missing, then places.

    While a scene is ``growing``, a shape that shares nothing with an object is no attempt at it: it is one too many.
    """
    left, matched = list(seen), dict[int, Seen]()

    def broken_by(i: int, candidate: Seen) -> int:
        return len(_broken(graph, {j: s.shape for j, s in matched.items()} | {i: candidate.shape}))

    for fits in _MATCHES[:-1] if growing else _MATCHES:
        for i, thing in enumerate(graph.objects):
            candidates = [s for s in left if fits(s, thing)]
            if i not in matched and candidates:
                broken = [broken_by(i, s) for s in candidates]
                matched[i] = candidates[broken.index(min(broken))]
                left.remove(matched[i])

    kept: dict[int, Shape] = {}
    faults: list[Fault] = []
    matched = dict(sorted(matched.items()))
    for i, s in matched.items():
        wanted = graph.objects[i]
        if not s.clear:
            faults.append(Fault(UNCLEAR, f"paint the {wanted.name} again"))
            continue
        kept[i] = _turned_into(s.shape, wanted)
        if kept[i] != s.shape:
            what = KIND if s.shape.kind != wanted.kind else COLOUR
            faults.append(Fault(what, f"change the {s.shape.name} to {article(wanted.name)}"))
    faults += [Fault(EXTRA, f"remove the {s.shape.name}") for s in left]
    missing = (i for i in range(len(graph.objects)) if i not in matched)
    faults += [Fault(MISSING, add_instruction(graph, i, matched)) for i in missing]
    while violated := _broken(graph, kept):
        faults.append(_put_right(graph, kept, violated, matched))
    return Comparison(graph, matched, tuple(left), kept, tuple(faults))


def _broken(graph: SceneGraph, at: dict[int, Shape]) -> list[Relation]:
    """Relations between placed objects that do not hold."""
    both = (r for r in graph.relations if r.subject in at and r.object in at)
    return [
        r
        for r in both
        if not holds(r.name, (at[r.subject].x, at[r.subject].y), (at[r.object].x, at[r.object].y))
    ]  # fmt: skip


def _put_right(graph: SceneGraph, kept: dict[int, Shape], broken: list[Relation], present: Collection[int]) -> Fault:
    """Exchange two shapes where that puts everything right, else take one off, to be placed anew."""
    for r in broken:
        a, b = kept[r.subject], kept[r.object]
        swapped = kept | {r.subject: a.at(b.x, b.y), r.object: b.at(a.x, a.y)}
        if not _broken(graph, swapped) and _valid(swapped, swapped.keys() - {r.subject, r.object}):
            kept.update(swapped)
            return Fault(PLACE, f"swap the {a.name} and the {b.name}")
    # The one in most trouble; of equals the one named last, which was most likely added last.
    trouble = Counter(i for r in broken for i in (r.subject, r.object))
    worst = max(sorted(trouble), key=lambda i: (trouble[i], i))
    del kept[worst]
    return Fault(PLACE, f"move the {graph.objects[worst].name}{_where(graph, worst, present)}")


def _valid(scene: dict[int, Shape], seen: Collection[int]) -> bool:
    """Whether shapes lie inside the canvas and apart; those ``seen`` in a picture lie where they lie, and must only not touch."""

    def free(i: int, j: int) -> bool:
        return apart(scene[i], scene[j], 0.0 if i in seen and j in seen else GAP)

    return all(i in seen or inside_canvas(shape) for i, shape in scene.items()) and all(
        free(i, j) for i, j in combinations(scene, 2)
    )


def mend(found: Comparison, rng: np.random.Generator, wish: Sequence[Shape | None] = ()) -> Scene | None:
    """The scene put right with the least change: what is kept stays, what is not clear is painted again where it lies, the
    rest goes where ``wish`` says, or anywhere it may.

    In the graph's order; None where there is no room.
    """
    n, kept = len(found.graph.objects), found.kept
    if not _valid(kept, kept):
        return None
    firm = kept | found.again
    if _valid(firm, kept) and not _broken(found.graph, firm):
        kept = firm
    wished = {i: shape for i, shape in enumerate(wish) if shape is not None and i < n} | kept
    if len(wished) == n and _valid(wished, kept) and not _broken(found.graph, wished):
        return [wished[i] for i in range(n)]
    order = [*kept, *(i for i in range(n) if i not in kept)]
    laid = sample_layout(found.graph.subgraph(order), rng, list(kept.values()))
    return None if laid is None else [laid[order.index(i)] for i in range(n)]


def next_step(
    graph: SceneGraph,
    seen: Sequence[Seen],
    rng: np.random.Generator,
    order: Sequence[int] | None = None,
    wish: Sequence[Shape] = (),
) -> Step | None:
    """Mend what is wrong with the canvas, else add the next object of ``order`` (the prompt's where None), else end.

    None where there is no room for it.
    """
    found = compare(graph, seen, growing=True)
    growing = bool(found.present)
    if not growing:  # all that is there is wrong: it becomes the first object
        found = compare(graph, seen)
    if any(fault.what != MISSING for fault in found.faults):
        wish = [wish[i] for i in found.present] if wish else ()
        found = compare(graph.subgraph(found.present), seen, growing)
        scene = mend(found, rng, wish)
        return None if scene is None else Step(found.faults[0].correction, found.graph, scene)
    missing = [i for i in order or range(len(graph.objects)) if i not in found.present]
    if not missing:
        return Step("", graph, [found.kept[i] for i in range(len(graph.objects))])
    # Lay out all that is to come, so that this step leaves room for the next.
    whole = mend(found, rng, wish)
    return None if whole is None else _addition(found, missing[0], whole)


def additions(graph: SceneGraph, seen: Sequence[Seen], rng: np.random.Generator) -> list[Step]:
    """Every step that may come next on a canvas without faults, whatever the order."""
    found = compare(graph, seen, growing=True)
    whole = mend(found, rng)
    missing = (i for i in range(len(graph.objects)) if i not in found.present)
    return [] if whole is None else [_addition(found, i, whole) for i in missing]


def _addition(found: Comparison, i: int, whole: Scene) -> Step:
    after = sorted((*found.present, i))
    instruction = add_instruction(found.graph, i, found.present)
    return Step(instruction, found.graph.subgraph(after), [whole[j] for j in after])


def contradiction(prompt: SceneGraph, planned: SceneGraph, canvas: Sequence[Seen]) -> tuple[str, SceneGraph]:
    """What is wrong with a plan ("" where nothing is), and the part of the prompt that it should have spoken of."""
    named, conflict = _indexes(prompt, planned)
    spoken = Counter(prompt.objects[i] for i in named)
    # What shares nothing with the prompt is no attempt at it: to take it away is no contradiction.
    drawn = Counter(prompt.objects[i] for i in compare(prompt, canvas, growing=True).present)
    if drawn - spoken:
        conflict = conflict or MISSING
    return conflict, prompt.subgraph(_first(prompt, spoken | drawn))


def judge(prompt: SceneGraph, planned: SceneGraph, canvas: Sequence[Seen], sketch: Sequence[Seen]) -> Verdict:
    """The critique of a sketch made for a plan: does the plan contradict the prompt, or the picture the plan?

    What the prompt asks and neither the plan nor the ``canvas`` before it holds is not drawn yet, and no error.
    """
    conflict, corrected = contradiction(prompt, planned, canvas)
    found = compare(corrected, sketch)
    if faults := found.faults:
        what = f"{STEP_WRONG} {conflict}" if conflict else f"{PICTURE_WRONG} {faults[0].what}"
        return Verdict(what, faults[0].correction, found)
    complete = len(corrected.objects) == len(prompt.objects)
    return Verdict(CORRECT_AND_COMPLETE if complete else CORRECT_SO_FAR, "", found)


def object_of(shape: Shape) -> Object:
    return Object(shape.colour, shape.kind)


def _turned_into(shape: Shape, thing: Object) -> Shape:
    """``thing`` where the shape lies, and as large."""
    return replace(shape, colour=thing.colour, kind=thing.kind)


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

"""A scene held against a scene graph: which shape stands for which object, the faults, and the scene put right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from .drawing import GAP, Detection, Scene, Shape, apart, inside_canvas
from .language import add_instruction, article, describe, relation_phrase
from .layout import sample_layout
from .scene_graph import RELATIONS, Object, Relation, SceneGraph, holds

COLOUR, KIND, MISSING, EXTRA, PLACE, UNCLEAR = (
    "a colour is wrong.",
    "a shape is wrong.",
    "a shape is missing.",
    "a shape is too many.",
    "a place is wrong.",
    "a shape is not clear.",
)


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
    matched: dict[int, Detection]
    extra: tuple[Detection, ...]
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
    def caption(self) -> str:
        """What is seen, in the words of a description."""
        seen = self.seen
        parts = [describe(seen)] if seen.objects else []
        parts += [f"{article(thing.name)} not clear" for thing in self.unclear]
        return " and ".join(parts) or "nothing"


# Which shape may stand for which object: the right ones first, then what lost its outline, then the wrong ones.
_MATCHES: tuple[Callable[[Detection, Object], bool], ...] = (
    lambda seen, thing: seen.clear and seen.shape.name == thing.name,
    lambda seen, thing: not seen.clear and seen.shape.colour == thing.colour,
    lambda seen, thing: seen.clear and seen.shape.kind == thing.kind,
    lambda seen, thing: seen.clear and seen.shape.colour == thing.colour,
    lambda seen, thing: True,
)


def compare(graph: SceneGraph, seen: Sequence[Detection], growing: bool = False) -> Comparison:
    """Match every shape with an object of the graph and name the faults: wrong ones, extra, missing, then places.

    While a scene is ``growing``, a shape that shares nothing with an object is no attempt at it: it is one too many.
    """
    left, matched = list(seen), dict[int, Detection]()

    def broken_by(i: int, candidate: Detection) -> int:
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
    return Fault(PLACE, f"move the {graph.objects[worst].name}{relation_phrase(graph, worst, present)}")


def _valid(scene: dict[int, Shape], seen: Collection[int]) -> bool:
    """Whether shapes lie inside the canvas and apart; those ``seen`` in a picture lie where they lie, and must only not touch."""

    def free(i: int, j: int) -> bool:
        return apart(scene[i], scene[j], 0.0 if i in seen and j in seen else GAP)

    return all(i in seen or inside_canvas(shape) for i, shape in scene.items()) and all(
        free(i, j) for i, j in combinations(scene, 2)
    )


def mend(found: Comparison, rng: np.random.Generator, preferred: Sequence[Shape | None] = ()) -> Scene | None:
    """The scene put right with the least change: what is kept stays, what is not clear is painted again where it lies, the
    rest goes where ``preferred`` says, or anywhere it may.

    In the graph's order; None where there is no room.
    """
    n, kept = len(found.graph.objects), found.kept
    if not _valid(kept, kept):
        return None
    firm = kept | found.again
    if _valid(firm, kept) and not _broken(found.graph, firm):
        kept = firm
    placed = {i: shape for i, shape in enumerate(preferred) if shape is not None and i < n} | kept
    if len(placed) == n and _valid(placed, kept) and not _broken(found.graph, placed):
        return [placed[i] for i in range(n)]
    order = [*kept, *(i for i in range(n) if i not in kept)]
    laid = sample_layout(found.graph.subgraph(order), rng, list(kept.values()))
    return None if laid is None else [laid[order.index(i)] for i in range(n)]


def object_of(shape: Shape) -> Object:
    return Object(shape.colour, shape.kind)


def _turned_into(shape: Shape, thing: Object) -> Shape:
    """``thing`` where the shape lies, and as large."""
    return replace(shape, colour=thing.colour, kind=thing.kind)

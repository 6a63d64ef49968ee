"""Comparison of a scene with a scene graph: the match of shapes and objects, the faults, and the mended scene."""

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
    """One fault of a scene: ``what`` is wrong (one of the six sentences above), and the instruction that mends it."""

    what: str
    correction: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of :func:`compare`: a scene, matched with the objects of a graph, and its faults.

    ``matched`` maps object indexes to the shapes that stand for them; ``extra`` are the shapes that stand for none.
    ``kept`` maps object indexes to shapes of the mended scene whose place is settled: colours and kinds put right,
    swaps made; what is missing, not clear, or has to move is not among them.
    """

    graph: SceneGraph
    matched: dict[int, Detection]
    extra: tuple[Detection, ...]
    kept: dict[int, Shape]
    faults: tuple[Fault, ...]

    @property
    def present(self) -> tuple[int, ...]:
        """Indexes of the objects for which a shape stands, whether or not it is right."""
        return tuple(self.matched)

    @property
    def redrawn(self) -> dict[int, Shape]:
        """The matched shapes that are not clear, as clear shapes of the right kind in the same place."""
        return {i: _turned_into(s.shape, self.graph.objects[i]) for i, s in self.matched.items() if not s.clear}

    @property
    def clear_graph(self) -> SceneGraph:
        """The scene graph of the clear shapes, matched ones first in the order of the graph. For each relation that the
        graph asks of two of them it holds the relation in which they lie, where they lie in any."""
        clear = {i: s.shape for i, s in self.matched.items() if s.clear}
        shapes = [*clear.values(), *(s.shape for s in self.extra if s.clear)]
        index = {i: n for n, i in enumerate(clear)}
        relations = []
        for r in self.graph.relations:
            if r.subject in clear and r.object in clear:
                a, b = clear[r.subject], clear[r.object]
                side = next((name for name in (r.name, *RELATIONS) if holds(name, a.centre, b.centre)), None)
                relations += [Relation(index[r.subject], side, index[r.object])] if side else []
        return SceneGraph(tuple(map(object_of, shapes)), tuple(relations))

    @property
    def unclear(self) -> tuple[Object, ...]:
        """The likeliest objects of all shapes that are not clear."""
        return tuple(object_of(s.shape) for s in (*self.matched.values(), *self.extra) if not s.clear)

    @property
    def caption(self) -> str:
        """The scene in words: a description of the clear shapes, then those that are not clear; "nothing" for none."""
        clear = self.clear_graph
        phrases = [describe(clear)] if clear.objects else []
        phrases += [f"{article(thing.name)} not clear" for thing in self.unclear]
        return " and ".join(phrases) or "nothing"


# Rules by which a shape may stand for an object, best first: right and clear, unclear, wrong colour, wrong kind, any.
_MATCHES: tuple[Callable[[Detection, Object], bool], ...] = (
    lambda seen, thing: seen.clear and seen.shape.name == thing.name,
    lambda seen, thing: not seen.clear and seen.shape.colour == thing.colour,
    lambda seen, thing: seen.clear and seen.shape.kind == thing.kind,
    lambda seen, thing: seen.clear and seen.shape.colour == thing.colour,
    lambda seen, thing: True,
)


def compare(graph: SceneGraph, seen: Sequence[Detection], growing: bool = False) -> Comparison:
    """Match the shapes of a scene with the objects of a graph and name the faults, each with its correction: first wrong
    or unclear shapes, then extra ones, missing ones, and places.

    While a scene is ``growing``, a shape that shares neither colour nor kind with an object is extra, no attempt at it.

    :func:`strokes.shapes.checker.check` also decides whether a picture is right, on purpose by other means: see there.
    """
    matched, extra = _match(graph, seen, _MATCHES[:-1] if growing else _MATCHES)
    right = {i: _turned_into(s.shape, graph.objects[i]) for i, s in matched.items() if s.clear}
    kept, place_faults = _settle_places(graph, right, matched)
    missing = (i for i in range(len(graph.objects)) if i not in matched)
    return Comparison(
        graph=graph,
        matched=matched,
        extra=extra,
        kept=kept,
        faults=(
            *(fault for i, s in matched.items() if (fault := _shape_fault(s, graph.objects[i]))),
            *(Fault(EXTRA, f"remove the {s.shape.name}") for s in extra),
            *(Fault(MISSING, add_instruction(graph, i, matched)) for i in missing),
            *place_faults,
        ),
    )


def _match(
    graph: SceneGraph, seen: Sequence[Detection], rules: Sequence[Callable[[Detection, Object], bool]]
) -> tuple[dict[int, Detection], tuple[Detection, ...]]:
    """Object index → shape, in the order of the graph, and the shapes left over.

    Greedy, rule by rule and object by object; of several candidates the one that breaks the fewest relations with the
    shapes matched so far, of equals the first seen.
    """
    left, matched = list(seen), dict[int, Detection]()

    def broken_by(i: int, candidate: Detection) -> int:
        return len(_broken(graph, {j: s.shape for j, s in matched.items()} | {i: candidate.shape}))

    for fits in rules:
        for i, thing in enumerate(graph.objects):
            candidates = [s for s in left if fits(s, thing)]
            if i not in matched and candidates:
                broken = [broken_by(i, s) for s in candidates]
                matched[i] = candidates[broken.index(min(broken))]
                left.remove(matched[i])
    return dict(sorted(matched.items())), tuple(left)


def _shape_fault(found: Detection, wanted: Object) -> Fault | None:
    """What is wrong with a shape as such, wherever it lies."""
    if not found.clear:
        return Fault(UNCLEAR, f"paint the {wanted.name} again")
    if object_of(found.shape) == wanted:
        return None
    what = KIND if found.shape.kind != wanted.kind else COLOUR
    return Fault(what, f"change the {found.shape.name} to {article(wanted.name)}")


def _settle_places(
    graph: SceneGraph, at: dict[int, Shape], present: Collection[int]
) -> tuple[dict[int, Shape], list[Fault]]:
    """The shapes with every relation between them held, and a fault for each change that it took: two shapes swapped where
    that puts everything right, else one taken off, to be placed anew. ``present`` are the objects that a correction
    may name."""
    faults = []
    while broken := _broken(graph, at):
        if swapped := _swap(graph, at, broken):
            at, first, second = swapped
            faults.append(Fault(PLACE, f"swap the {at[first].name} and the {at[second].name}"))
        else:
            worst = _most_broken(broken)
            at = {i: shape for i, shape in at.items() if i != worst}
            faults.append(Fault(PLACE, f"move the {graph.objects[worst].name}{relation_phrase(graph, worst, present)}"))
    return at, faults


def _broken(graph: SceneGraph, at: dict[int, Shape]) -> list[Relation]:
    """Relations between placed objects that do not hold."""
    placed = (r for r in graph.relations if r.subject in at and r.object in at)
    return [r for r in placed if not holds(r.name, at[r.subject].centre, at[r.object].centre)]


def _swap(
    graph: SceneGraph, at: dict[int, Shape], broken: Sequence[Relation]
) -> tuple[dict[int, Shape], int, int] | None:
    """The shapes after one exchange of places that makes every relation hold, and the indexes of the two exchanged; None
    where no broken relation's two shapes are such."""
    for r in broken:
        a, b = at[r.subject], at[r.object]
        swapped = at | {r.subject: a.at(b.x, b.y), r.object: b.at(a.x, a.y)}
        if not _broken(graph, swapped) and _valid(swapped, swapped.keys() - {r.subject, r.object}):
            return swapped, r.subject, r.object
    return None


def _most_broken(broken: Sequence[Relation]) -> int:
    """The object in most of the broken relations; of equals the last, which was most likely added last."""
    counts = Counter(i for r in broken for i in (r.subject, r.object))
    return max(counts, key=lambda i: (counts[i], i))


def _valid(scene: dict[int, Shape], fixed: Collection[int]) -> bool:
    """Whether all shapes lie inside the canvas and ``GAP`` apart. ``fixed`` shapes were found in a picture: they may lie
    anywhere, and only must not touch each other."""

    def free(i: int, j: int) -> bool:
        return apart(scene[i], scene[j], 0.0 if i in fixed and j in fixed else GAP)

    return all(i in fixed or inside_canvas(shape) for i, shape in scene.items()) and all(
        free(i, j) for i, j in combinations(scene, 2)
    )


def mend(found: Comparison, rng: np.random.Generator, preferred: Sequence[Shape | None] = ()) -> Scene | None:
    """The mended scene, in the graph's order, with the least change; None where there is no room.

    What is kept stays, what is not clear is redrawn in its place where that is valid, and the rest goes where
    ``preferred`` (one entry an object) says, or else wherever :func:`sample_layout` finds room.
    """
    n, kept = len(found.graph.objects), found.kept
    if not _valid(kept, kept):
        return None
    with_redrawn = kept | found.redrawn
    if _valid(with_redrawn, kept) and not _broken(found.graph, with_redrawn):
        kept = with_redrawn
    placed = {i: shape for i, shape in enumerate(preferred) if shape is not None and i < n} | kept
    if len(placed) == n and _valid(placed, kept) and not _broken(found.graph, placed):
        return [placed[i] for i in range(n)]
    order = [*kept, *(i for i in range(n) if i not in kept)]
    laid = sample_layout(found.graph.subgraph(order), rng, list(kept.values()))
    return None if laid is None else [laid[order.index(i)] for i in range(n)]


def object_of(shape: Shape) -> Object:
    return Object(shape.colour, shape.kind)


def _turned_into(shape: Shape, thing: Object) -> Shape:
    """The shape with the colour and kind of ``thing``."""
    return replace(shape, colour=thing.colour, kind=thing.kind)

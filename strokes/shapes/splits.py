"""What training sees and what it never does: held-out combinations, longer scenes, and a tenth of everything else.

Four splits: ``seen`` combinations, held-out ``pairs`` of colour and kind, held-out ``relations`` of an object, and scenes
``longer`` by one object. Training draws from the first, less the scenes that are :func:`reserved` for evaluation.
"""

from __future__ import annotations

import hashlib

from .scene_graph import INVERSE, Object, Relation, SceneGraph

SPLITS = ("seen", "pairs", "relations", "longer")
MOST_TRAINED = 4
# Each kind and five of the eight colours once: an eighth of the forty pairs.
HELD_OUT_PAIRS = frozenset(
    Object(colour, kind)
    for colour, kind in (
        ("cyan", "circle"),
        ("black", "square"),
        ("orange", "triangle"),
        ("yellow", "diamond"),
        ("purple", "cross"),
    )
)


def _bucket(text: str, parts: int) -> bool:
    """One of ``parts`` equal parts of all texts, by their hash."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % parts == 0


def held_out(relation: Relation, objects: tuple[Object, ...]) -> bool:
    """Whether training never names one of the two objects on its side of the other: an eighth of all (object, side). A layout
    may show it, where no word says so."""
    sides = ((objects[relation.subject], relation.name), (objects[relation.object], INVERSE[relation.name]))
    return any(_bucket(f"{thing.name} / {side}", 8) for thing, side in sides)


def identity(graph: SceneGraph) -> str:
    """The same text for every order and wording of one scene."""
    names = [thing.name for thing in graph.objects]
    relations = (r if r.name in ("left of", "above") else r.inverted() for r in graph.relations)
    clauses = sorted(f"{names[r.subject]} {r.name} {names[r.object]}" for r in relations)
    return "; ".join((*sorted(names), *clauses))


def split_of(graph: SceneGraph) -> str | None:
    """One of :data:`SPLITS`; None where a scene is new in more than one way."""
    ways = []
    if len(graph.objects) > MOST_TRAINED:
        ways.append("longer")
    if HELD_OUT_PAIRS.intersection(graph.objects):
        ways.append("pairs")
    if any(held_out(r, graph.objects) for r in graph.relations):
        ways.append("relations")
    return None if len(ways) > 1 else ways[0] if ways else "seen"


def nameable(graph: SceneGraph) -> bool:
    """Whether training may say what a picture is seen to hold: no held-out pair or relation, nor what is kept for evaluation;
    one shape too many is what a wrong picture may well show."""
    return split_of(graph) in ("seen", "longer") and not reserved(graph)


def reserved(graph: SceneGraph) -> bool:
    """Whether a scene, in whatever words, is kept for evaluation: a tenth of all but the single shapes, of which there
    are too few."""
    return len(graph.objects) > 1 and _bucket(identity(graph), 10)


def trainable(graph: SceneGraph) -> bool:
    return split_of(graph) == "seen" and not reserved(graph)

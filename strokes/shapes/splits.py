"""Splits of the scene graphs into training and evaluation.

Four splits: ``seen`` combinations, held-out ``pairs`` of colour and kind, held-out ``relations`` of an object, and scenes
``longer`` by one object. Training draws from ``seen``, without the tenth that is :func:`reserved` for evaluation.
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


def _in_first_bucket(text: str, buckets: int) -> bool:
    """Whether a text's hash falls into the first of ``buckets`` equal buckets."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % buckets == 0


def held_out(relation: Relation, objects: tuple[Object, ...]) -> bool:
    """Whether a relation is kept from training's texts: an eighth of all (object, direction) pairs is, and a relation has
    two, one for each end. Training pictures may still show it by chance."""
    sides = ((objects[relation.subject], relation.name), (objects[relation.object], INVERSE[relation.name]))
    return any(_in_first_bucket(f"{thing.name} / {side}", 8) for thing, side in sides)


def identity(graph: SceneGraph) -> str:
    """A canonical text of a graph, the same for every order of its objects and relations."""
    names = [thing.name for thing in graph.objects]
    relations = (r if r.name in ("left of", "above") else r.inverted() for r in graph.relations)
    clauses = sorted(f"{names[r.subject]} {r.name} {names[r.object]}" for r in relations)
    return "; ".join((*sorted(names), *clauses))


def split_of(graph: SceneGraph) -> str | None:
    """One of :data:`SPLITS`; None where a scene is held out in more than one way."""
    ways = []
    if len(graph.objects) > MOST_TRAINED:
        ways.append("longer")
    if HELD_OUT_PAIRS.intersection(graph.objects):
        ways.append("pairs")
    if any(held_out(r, graph.objects) for r in graph.relations):
        ways.append("relations")
    return None if len(ways) > 1 else ways[0] if ways else "seen"


def nameable(graph: SceneGraph) -> bool:
    """Whether training may describe a picture by this graph: it has no held-out pair or relation, and is not reserved. It may
    be longer by one object, as a wrong picture is."""
    return split_of(graph) in ("seen", "longer") and not reserved(graph)


def reserved(graph: SceneGraph) -> bool:
    """Whether a scene, in any wording, is kept for evaluation: a tenth of those with two objects or more. Single shapes are
    too few to keep any."""
    return len(graph.objects) > 1 and _in_first_bucket(identity(graph), 10)


def trainable(graph: SceneGraph) -> bool:
    """Whether training may draw this graph as a prompt."""
    return split_of(graph) == "seen" and not reserved(graph)

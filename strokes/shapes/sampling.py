"""Random scene graphs, scenes and prompts for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .drawing import COLOURS, KINDS, Scene
from .language import write_prompt
from .layout import sample_layout
from .scene_graph import CATEGORIES, RELATIONS, Object, Relation, SceneGraph
from .splits import trainable


@dataclass(frozen=True)
class PromptMix:
    """The distribution of prompts: weight of each of :data:`CATEGORIES`, most objects in a graph, and the share of two-object
    graphs among positions and bindings."""

    weights: tuple[float, ...] = (0.12, 0.1, 0.24, 0.1, 0.3, 0.14)
    max_objects: int = 4
    pairs: float = 0.6

    def draw(self, rng: np.random.Generator) -> str:
        """One of :data:`CATEGORIES`."""
        return CATEGORIES[rng.choice(len(CATEGORIES), p=np.array(self.weights) / sum(self.weights))]


# The training mix: more large scenes than in evaluation, above all chains of relations, which are learned last.
TRAINED = PromptMix((0.05, 0.07, 0.2, 0.06, 0.4, 0.22), pairs=0.25)


def sample_graph(rng: np.random.Generator, mix: PromptMix, category: str | None = None) -> SceneGraph:
    """A random graph of a category of :data:`CATEGORIES` (drawn by the mix where None)."""
    category = category or mix.draw(rng)
    colours = [COLOURS[i] for i in rng.choice(len(COLOURS), 2, replace=False)]
    kinds = [KINDS[i] for i in rng.choice(len(KINDS), 2, replace=False)]
    most = mix.max_objects
    if category == "single":
        return SceneGraph((Object(colours[0], kinds[0]),))
    if category == "two objects":
        return SceneGraph(tuple(Object(colours[0], kind) for kind in kinds))
    if category == "colours":
        return SceneGraph(tuple(Object(colour, kinds[0]) for colour in colours))
    if category == "counting":
        n = int(rng.integers(2, most + 1))
        rest = int(rng.integers(0, 2)) if n < most else 0
        objects = [Object(colours[0], kinds[0])] * n + [Object(colours[1], kinds[1])] * rest
        return SceneGraph(tuple(objects if rng.random() < 0.7 else objects[::-1]))
    n = 2 if rng.random() < mix.pairs else int(rng.integers(2, most + 1))
    objects = _distinct(rng, n)
    if category == "binding":
        while len({o.colour for o in objects}) == 1 or len({o.kind for o in objects}) == 1:
            objects = _distinct(rng, n)
        return SceneGraph(tuple(objects))
    relations = []
    for new in range(1, n):
        relation = Relation(new, RELATIONS[rng.integers(4)], int(rng.integers(new)))
        relations.append(relation if new > 1 and rng.random() < 0.7 else relation.inverted())
    return SceneGraph(tuple(objects), tuple(relations))


def _distinct(rng: np.random.Generator, n: int) -> list[Object]:
    """``n`` different objects."""
    picks = rng.choice(len(COLOURS) * len(KINDS), n, replace=False)
    return [Object(COLOURS[i % len(COLOURS)], KINDS[i // len(COLOURS)]) for i in picks]


def sample_scene(rng: np.random.Generator, mix: PromptMix, category: str | None = None) -> tuple[SceneGraph, Scene]:
    """A random :func:`trainable` graph and a layout of it."""
    category = category or mix.draw(rng)
    while True:
        graph = sample_graph(rng, mix, category)
        shapes = sample_layout(graph, rng) if trainable(graph) else None
        if shapes is not None:
            return graph, shapes


def sample_prompt(rng: np.random.Generator, mix: PromptMix) -> tuple[str, SceneGraph, Scene]:
    """A training prompt with its graph and a layout; a quarter of the prompts are in long forms."""
    graph, shapes = sample_scene(rng, mix)
    return write_prompt(graph, long_forms=rng.random() < 0.25), graph, shapes

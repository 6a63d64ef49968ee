"""Scene graphs: objects and relations, their prompts (written and read), and layouts that satisfy them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import StrokesError
from .drawing import COLOURS, EXTENT, GAP, KINDS, RADIUS, UNIT, Shape

RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}
MIN_OFFSET = 8.0
CATEGORIES = ("single", "two objects", "counting", "colours", "position", "binding")


@dataclass(frozen=True)
class Object:
    """A node of the graph: a kind of shape in a colour."""

    colour: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Relation:
    """``subject`` lies ``name`` (one of :data:`RELATIONS`) ``object``; both are indexes into the objects."""

    subject: int
    name: str
    object: int

    def inverted(self) -> Relation:
        return Relation(self.object, INVERSE[self.name], self.subject)


@dataclass(frozen=True)
class SceneGraph:
    """One to five objects and the relations asked of them."""

    objects: tuple[Object, ...]
    relations: tuple[Relation, ...] = ()

    def subgraph(self, keep: Sequence[int]) -> SceneGraph:
        """The induced subgraph on ``keep``, in that order."""
        index = {old: new for new, old in enumerate(keep)}
        return SceneGraph(
            tuple(self.objects[i] for i in keep),
            tuple(
                Relation(index[r.subject], r.name, index[r.object])
                for r in self.relations
                if r.subject in index and r.object in index
            ),
        )

    @property
    def category(self) -> str:
        """GenEval's six kinds in miniature."""
        if self.relations:
            return "position"
        if len(self.objects) == 1:
            return "single"
        if len(set(self.objects)) < len(self.objects):
            return "counting"
        if len({o.colour for o in self.objects}) == 1:
            return "two objects"
        return "colours" if len({o.kind for o in self.objects}) == 1 else "binding"


def article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def join(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def write_prompt(graph: SceneGraph, long_forms: bool = False) -> str:
    """The prompt of a graph; ``long_forms`` writes "to the left of". Objects in relations must be distinct."""
    if not graph.relations:
        counts = Counter(o.name for o in graph.objects)
        words = {n: word for word, n in NUMBERS.items()}
        # More than five alike are in no prompt; a model may paint them.
        return join([article(n) if c == 1 else f"{words[min(c, 5)]} {plural(n)}" for n, c in counts.items()])
    named: set[int] = set()

    def noun(i: int) -> str:
        text = f"the {graph.objects[i].name}" if i in named else article(graph.objects[i].name)
        named.add(i)
        return text

    clauses = []
    for r in graph.relations:
        relation = f"to the {r.name}" if long_forms and r.name in ("left of", "right of") else r.name
        clauses.append(f"{noun(r.subject)} {relation} {noun(r.object)}")
    clauses += [noun(i) for i in range(len(graph.objects)) if i not in named]
    return " and ".join(clauses)


_NOUN = re.compile(rf"(a|an|the|{'|'.join(NUMBERS)}) ({'|'.join(COLOURS)}) ({'|'.join(KINDS)})(es|s)?\b")
_RELATION = re.compile(r" (?:to the )?(left of|right of)| (above|below)")


def read_prompt(prompt: str) -> SceneGraph:
    """Parse a prompt of the shapes world. Raises :class:`StrokesError` quoting what it cannot read."""
    text = re.sub(r"\s+", " ", prompt.strip().lower()).removesuffix(".")
    objects: list[Object] = []
    relations: list[Relation] = []

    def fail(position: int) -> StrokesError:
        return StrokesError(
            f"cannot read the prompt from '{text[position:]}' on: expected e.g. 'a red circle left of a blue square'"
        )

    def noun(position: int) -> tuple[list[int], int]:
        match = _NOUN.match(text, position)
        if not match:
            raise fail(position)
        word, colour, kind, ending = match.groups()
        if (word in NUMBERS) != bool(ending):
            raise fail(position)
        item = Object(colour, kind)
        if word == "the":
            known = [i for i, o in enumerate(objects) if o == item]
            if len(known) != 1:
                raise StrokesError(
                    f"'the {item.name}' must name exactly one shape mentioned before, and {len(known)} were"
                )
            return known, match.end()
        count = NUMBERS.get(word, 1)
        objects.extend([item] * count)
        return list(range(len(objects) - count, len(objects))), match.end()

    position = 0
    while True:
        subject, position = noun(position)
        if match := _RELATION.match(text, position):
            if text[match.end() : match.end() + 1] != " ":
                raise fail(match.end())
            other, position = noun(match.end() + 1)
            if len(subject) > 1 or len(other) > 1:
                raise StrokesError("a relation takes single shapes, not a number of them")
            relations.append(Relation(subject[0], match.group(1) or match.group(2), other[0]))
        if position == len(text):
            break
        separator = re.compile(r",? and |, ").match(text, position)
        if not separator:
            raise fail(position)
        position = separator.end()
    if len(objects) > 5:
        raise StrokesError(f"the prompt names {len(objects)} shapes; at most 5 fit the canvas")
    return SceneGraph(tuple(objects), tuple(relations))


def holds(relation: str, a: tuple[float, float], b: tuple[float, float], offset: float = MIN_OFFSET) -> bool:
    """Whether centre ``a`` (x, y with y downwards) lies in the direction ``relation`` from ``b``."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    along = along if relation in ("left of", "above") else -along
    return along >= offset and along >= abs(across)


# Where layouts put shapes first: a loose grid of three by three, each place off by at most so much. Anywhere at all would
# spend a small model's training on places, of which no prompt asks more than sides.
PLACES = (10.5, 32.0, 53.5)
OFF_PLACE = 1.5


def sample_layout(
    graph: SceneGraph, rng: np.random.Generator, fixed: Sequence[Shape] = (), candidates: int = 256
) -> list[Shape] | None:
    """Shapes for a graph: inside the canvas, ``GAP`` apart, every relation held with some margin; on a loose grid, or
    anywhere where that has no room.

    ``fixed`` are shapes already placed, for the first objects. None where no candidate fits.
    """
    return _layout(graph, rng, fixed, candidates, grid=True) or _layout(graph, rng, fixed, candidates, grid=False)


def _layout(
    graph: SceneGraph, rng: np.random.Generator, fixed: Sequence[Shape], candidates: int, grid: bool
) -> list[Shape] | None:
    n, k = len(graph.objects), len(fixed)
    extent = np.array([EXTENT[o.kind] for o in graph.objects])
    top = RADIUS[1] if n < 4 else 0.5 * (RADIUS[0] + RADIUS[1])
    r = rng.uniform(RADIUS[0], top, (candidates, n))
    side, up, down, reach = (extent[:, i] for i in range(4))
    if grid:
        places = rng.permuted(np.tile(np.arange(9), (candidates, 1)), axis=1)[:, :n]
        x, y = (np.array(PLACES)[p] + rng.uniform(-OFF_PLACE, OFF_PLACE, p.shape) for p in np.divmod(places, 3))
        x = np.clip(x, side * r + 0.5, UNIT - side * r - 0.5)
        y = np.clip(y, up * r + 0.5, UNIT - down * r - 0.5)
    else:
        x = rng.uniform(side * r + 0.5, UNIT - side * r - 0.5)
        y = rng.uniform(up * r + 0.5, UNIT - down * r - 0.5)
    for i, shape in enumerate(fixed):
        x[:, i], y[:, i], r[:, i] = shape.x, shape.y, shape.r
    good = np.ones(candidates, bool)
    gap = GAP + 0.5
    for j in range(k, n):
        for i in range(j):
            dx, dy = x[:, j] - x[:, i], y[:, j] - y[:, i]
            boxes = np.maximum(
                np.abs(dx) - side[i] * r[:, i] - side[j] * r[:, j],
                np.where(dy > 0, dy - down[i] * r[:, i] - up[j] * r[:, j], -dy - up[i] * r[:, i] - down[j] * r[:, j]),
            )
            circles = np.hypot(dx, dy) - reach[i] * r[:, i] - reach[j] * r[:, j]
            good &= np.maximum(boxes, circles) >= gap
    for rel in graph.relations:
        if rel.subject < k and rel.object < k:
            continue
        dx, dy = x[:, rel.object] - x[:, rel.subject], y[:, rel.object] - y[:, rel.subject]
        along, across = (dx, dy) if rel.name in ("left of", "right of") else (dy, dx)
        along = along if rel.name in ("left of", "above") else -along
        good &= (along >= MIN_OFFSET + 2) & (along >= 1.15 * np.abs(across))
    found = np.flatnonzero(good)
    if not len(found):
        return None
    c = found[0]
    return [
        fixed[i] if i < k else Shape(o.colour, o.kind, float(x[c, i]), float(y[c, i]), float(r[c, i]))
        for i, o in enumerate(graph.objects)
    ]


@dataclass(frozen=True)
class PromptMix:
    """Which graphs are drawn: share of each category, objects at most, and how many of the positions and bindings have
    just two."""

    weights: tuple[float, ...] = (0.12, 0.1, 0.24, 0.1, 0.3, 0.14)
    max_objects: int = 4
    pairs: float = 0.6

    def draw(self, rng: np.random.Generator) -> str:
        """A category."""
        return CATEGORIES[rng.choice(len(CATEGORIES), p=np.array(self.weights) / sum(self.weights))]


# What is trained: more of the larger scenes than are evaluated, above all chains of relations, which are learned last.
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
    picks = rng.choice(len(COLOURS) * len(KINDS), n, replace=False)
    return [Object(COLOURS[i % len(COLOURS)], KINDS[i // len(COLOURS)]) for i in picks]


def vocabulary_words() -> Iterable[str]:
    """Every word that prompts and descriptions use."""
    yield from ("a", "an", "the", "and", "to", "left", "right", "of", "above", "below")
    yield from NUMBERS
    yield from COLOURS
    for kind in KINDS:
        yield kind
        yield plural(kind)


def plural(kind: str) -> str:
    return kind + ("es" if kind.endswith("s") else "s")

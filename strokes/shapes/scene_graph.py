"""Scene graphs: the objects of a prompt and the relations between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
MIN_OFFSET = 8.0
CATEGORIES = ("single", "two objects", "counting", "colours", "position", "binding")


@dataclass(frozen=True)
class Object:
    """A node of the graph: a colour and a kind of shape."""

    colour: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Relation:
    """An edge of the graph: ``subject`` lies ``name`` (one of :data:`RELATIONS`) ``object``, both indexes of objects."""

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
        """One of :data:`CATEGORIES`, which are GenEval's six tasks in this world."""
        if self.relations:
            return "position"
        if len(self.objects) == 1:
            return "single"
        if len(set(self.objects)) < len(self.objects):
            return "counting"
        if len({o.colour for o in self.objects}) == 1:
            return "two objects"
        return "colours" if len({o.kind for o in self.objects}) == 1 else "binding"


def holds(relation: str, a: tuple[float, float], b: tuple[float, float], offset: float = MIN_OFFSET) -> bool:
    """Whether centre ``a`` (x, y with y downwards) lies in direction ``relation`` from centre ``b``: at least ``offset``
    pixels along it, and no farther across than along."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    along = along if relation in ("left of", "above") else -along
    return along >= offset and along >= abs(across)

"""The closed language of the shapes world: prompts and descriptions, written from a scene graph and read back to one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from ..errors import StrokesError
from .drawing import COLOURS, KINDS
from .scene_graph import Object, Relation, SceneGraph

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}


def article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def join(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def write_prompt(graph: SceneGraph, long_forms: bool = False) -> str:
    """The prompt of a graph; ``long_forms`` writes "to the left of". Where there are relations, no two objects may be alike."""
    if not graph.relations:
        counts = Counter(o.name for o in graph.objects)
        words = {n: word for word, n in NUMBERS.items()}
        # No prompt names more than five alike, but a description of a model's picture may have to.
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


MAX_OBJECTS = 5
_NOUN = re.compile(rf"(a|an|the|{'|'.join(NUMBERS)}) ({'|'.join(COLOURS)}) ({'|'.join(KINDS)})(es|s)?\b")
_RELATION = re.compile(r" (?:to the )?(left of|right of)| (above|below)")
_SEPARATOR = re.compile(r",? and |, ")


def read_prompt(prompt: str) -> SceneGraph:
    """Parse a prompt of the shapes world. Raises :class:`StrokesError` quoting what it cannot read."""
    parser = _Parser(re.sub(r"\s+", " ", prompt.strip().lower()).removesuffix("."))
    graph = parser.clauses()
    if len(graph.objects) > MAX_OBJECTS:
        raise StrokesError(f"the prompt names {len(graph.objects)} shapes; at most {MAX_OBJECTS} fit the canvas")
    return graph


class _Parser:
    """The parser of one prompt: clauses of a noun, or of a noun, a relation and a noun."""

    def __init__(self, text: str):
        self.text, self.position = text, 0
        self.objects: list[Object] = []
        self.relations: list[Relation] = []

    def clauses(self) -> SceneGraph:
        self._clause()
        while self.position < len(self.text):
            if not self._next(_SEPARATOR):
                raise self._unreadable()
            self._clause()
        return SceneGraph(tuple(self.objects), tuple(self.relations))

    def _clause(self) -> None:
        subject = self._noun()
        relation = self._next(_RELATION)
        if not relation:
            return
        if not self.text.startswith(" ", self.position):
            raise self._unreadable()
        self.position += 1
        other = self._noun()
        if len(subject) > 1 or len(other) > 1:
            raise StrokesError("a relation takes single shapes, not a number of them")
        self.relations.append(Relation(subject[0], relation[1] or relation[2], other[0]))

    def _noun(self) -> list[int]:
        """Indexes of the objects that a noun names: new ones, or after "the" the one mentioned before."""
        start = self.position
        match = self._next(_NOUN)
        if not match or (match[1] in NUMBERS) != bool(match[4]):
            self.position = start
            raise self._unreadable()
        named = Object(match[2], match[3])
        if match[1] == "the":
            known = [i for i, thing in enumerate(self.objects) if thing == named]
            if len(known) != 1:
                raise StrokesError(
                    f"'the {named.name}' must name exactly one shape mentioned before, and {len(known)} were"
                )
            return known
        first, count = len(self.objects), NUMBERS.get(match[1], 1)
        self.objects += [named] * count
        return list(range(first, first + count))

    def _next(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Match at the current position, and move behind it."""
        match = pattern.match(self.text, self.position)
        if match:
            self.position = match.end()
        return match

    def _unreadable(self) -> StrokesError:
        rest = self.text[self.position :]
        return StrokesError(
            f"cannot read the prompt from '{rest}' on: expected e.g. 'a red circle left of a blue square'"
        )


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


# The instruction that paints a prompt in one step.
WHOLE = "paint the prompt"


def describe(graph: SceneGraph) -> str:
    """The description of a graph: its prompt. Where two objects are alike, without relations: no noun tells the two apart."""
    alike = len(set(graph.objects)) < len(graph.objects)
    return write_prompt(SceneGraph(graph.objects) if alike else graph)


def add_instruction(graph: SceneGraph, i: int, present: Collection[int]) -> str:
    """The instruction that adds object ``i`` where objects ``present`` are on the canvas."""
    return f"add {article(graph.objects[i].name)}{relation_phrase(graph, i, present)}"


def relation_phrase(graph: SceneGraph, i: int, present: Collection[int]) -> str:
    """The relations of object ``i`` to those ``present``, such as " left of the blue square and above the red circle", with
    the space before; "" where there are none."""
    phrases = []
    for r in graph.relations:
        from_i = r.inverted() if r.object == i else r
        if from_i.subject == i and from_i.object in present:
            phrases.append(f" {from_i.name} the {graph.objects[from_i.object].name}")
    return " and".join(phrases)

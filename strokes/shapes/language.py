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
    """The prompt of a graph; where objects became alike, relations have no name to take them up by and are left out."""
    alike = len(set(graph.objects)) < len(graph.objects)
    return write_prompt(SceneGraph(graph.objects) if alike else graph)


def add_instruction(graph: SceneGraph, i: int, present: Collection[int]) -> str:
    return f"add {article(graph.objects[i].name)}{relation_phrase(graph, i, present)}"


def relation_phrase(graph: SceneGraph, i: int, present: Collection[int]) -> str:
    """`` left of the blue square and above the …``: what object ``i`` is asked to be to those present."""
    parts = []
    for r in graph.relations:
        r = r.inverted() if r.object == i else r
        if r.subject == i and r.object in present:
            parts.append(f" {r.name} the {graph.objects[r.object].name}")
    return " and".join(parts)

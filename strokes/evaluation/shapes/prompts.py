"""The prompts of the benchmark: written anew over the splits and kinds, or read from a file of one prompt a line."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from ...errors import StrokesError
from ...shapes.drawing import Shape
from ...shapes.language import read_prompt, write_prompt
from ...shapes.layout import sample_layout
from ...shapes.sampling import PromptMix, sample_graph
from ...shapes.scene_graph import CATEGORIES, SceneGraph
from ...shapes.splits import MOST_TRAINED, SPLITS, reserved, split_of

# Without it, a huge count would draw for hours before it found that there are not so many.
MOST_WRITTEN = 100_000


@dataclass(frozen=True)
class Prompt:
    """A prompt of a file, its ``line`` counted from 1. ``split`` is "other" where it is held out in more than one way."""

    line: int
    text: str
    graph: SceneGraph

    @property
    def kind(self) -> str:
        return self.graph.category

    @property
    def split(self) -> str:
        return split_of(self.graph) or "other"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the report in which it counts, of :data:`GROUPS`."""
        wider = ("held out",) if self.split in ("pairs", "relations") else ()
        larger = ("3 or more",) if len(self.graph.objects) >= 3 else ()
        return ("all", self.kind, self.split, *wider, *larger)


# The kinds that a split has; all six for the others.
_KINDS = {"relations": ("position",), "longer": ("counting", "position", "binding")}
GROUPS = ("all", *CATEGORIES, *SPLITS, "other", "held out", "3 or more")


def read_prompts(lines: Sequence[str], check: Callable[[str], object]) -> tuple[list[Prompt], list[tuple[int, str]]]:
    """The prompts of a file, and (line, reason) of those that :func:`read_prompt` or ``check`` refuses.

    Blank lines are skipped. Raises StrokesError where no prompt is left.
    """
    prompts, unread = [], []
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            prompt = Prompt(line, text.strip(), read_prompt(text))
            check(text)
        except StrokesError as error:
            unread.append((line, str(error)))
        else:
            prompts.append(prompt)
    if not prompts:
        why = f"line {unread[0][0]}: {unread[0][1]}" if unread else "the file is empty"
        raise StrokesError(f"no prompt to evaluate: {why}")
    return prompts, unread


def write_prompts(count: int, seed: int = 0, splits: Sequence[str] = SPLITS) -> list[str]:
    """``count`` distinct prompts that can be laid out, spread evenly over the ``splits`` and, within each, over its kinds; so
    is every prefix of the list. Two may word one scene differently.

    Prompts of "seen" are those reserved from training, except single shapes: training has all of them, and only layout and
    noise are new. A kind that has no new prompt left gives its share to the others. Raises StrokesError for a count
    out of range, an unknown split, or more prompts than there are.
    """
    if count < 1:
        raise StrokesError(f"{count} prompts: ask for at least 1")
    if count > MOST_WRITTEN:
        raise StrokesError(f"{count} prompts: ask for at most {MOST_WRITTEN}")
    if not splits or set(splits) - set(SPLITS):
        raise StrokesError(f"unknown splits {', '.join(splits) or '(none)'}: choose from {', '.join(SPLITS)}")
    rng, prompts = np.random.default_rng(seed), dict[str, None]()
    open_kinds = {split: list(_KINDS.get(split, CATEGORIES)) for split in splits}
    for split in cycle(splits):
        kinds, prompt = open_kinds[split], None
        while kinds and prompt is None:
            kind = kinds.pop(0)
            prompt = _new_prompt(rng, split, kind, prompts)
            if prompt is not None:
                prompts[prompt] = None
                kinds.append(kind)
        if len(prompts) == count:
            break
        if not any(open_kinds.values()):
            raise StrokesError(f"{count} prompts: there are only {len(prompts)} in {', '.join(splits)}")
    return list(prompts)


def _new_prompt(rng: np.random.Generator, split: str, kind: str, known: Container[str]) -> str | None:
    """A prompt that is not among ``known``; None where 2,000 draws bring none, so that the kind counts as used up."""
    mix = PromptMix(max_objects=MOST_TRAINED + (split == "longer"))
    for _ in range(2000):
        graph = sample_graph(rng, mix, kind)
        if split_of(graph) != split or (split == "seen" and kind != "single" and not reserved(graph)):
            continue
        prompt = write_prompt(graph, long_forms=rng.random() < 0.25)
        if prompt not in known and _fits(graph, rng):
            return prompt
    return None


def _fits(graph: SceneGraph, rng: np.random.Generator) -> bool:
    """Whether a scene can be laid out, object by object as the process does: five shapes at once seldom find room."""
    for _ in range(8):
        placed: list[Shape] | None = []
        for k in range(len(graph.objects)):
            placed = None if placed is None else sample_layout(graph.subgraph(range(k + 1)), rng, placed)
        if placed is not None:
            return True
    return False

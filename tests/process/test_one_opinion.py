"""Models of one opinion, in every dialect: always yes ends after one round, always no repaints once a round until the end."""

from __future__ import annotations

import math

import pytest
from scripted_painter import ScriptedPainter

from strokes.process import loop, stages
from strokes.process.dialects.choice import READY
from strokes.process.dialects.reflection import SCORES, ReflectionDialect
from strokes.process.dialects.unicot import UniCoTDialect
from strokes.process.settings import Scored, Written

DIALECTS = {
    **READY,
    "reflection": ReflectionDialect(system_prompt="A stand-in system prompt."),
    "uni-cot": UniCoTDialect(system_prompt="A stand-in system prompt.", request_detail="Say it in more detail."),
}
# What it writes behind any start, in tags where the dialect has them.
TAGGED = "<ins>Add a boat.</ins><des>A boat.</des>"
SAYS = {
    "plain": "Add a red boat.",
    "paper": TAGGED,
    "miniature": TAGGED,
    "reflection": "Add a red boat.",
    "uni-cot": "Add a red boat.",
}


class OneOpinion(ScriptedPainter):
    """Gives 99 % to the answers that mean yes, or to the others."""

    def __init__(self, dialect, yes):
        super().__init__((), DIALECTS[dialect])
        self.says, self.yes = SAYS[dialect], yes

    def write_text(self, state, settings, seed, on_text=None, start="", stop=()):
        says = "The boat is wrong." if stop == ("<refine>",) else self.says
        if start.startswith(("the picture is wrong", "the step is wrong", "The boat is wrong")):
            says = "Paint it red." if "<refine>" in start else ". <refine>Paint it red.</refine>"
        self.texts.append((state, settings, seed, start))
        return Written(f"{start} {says}".strip(), len(says.split()), True, bool(stop))

    def score(self, state, answers, start=""):
        self.scores.append((state, tuple(answers), start))
        asked = next(a for a in self.dialect.answers if [s for each in a.values() for s in each] == list(answers))
        if asked is SCORES:
            return Scored(tuple([math.log(1 / 11)] * 11), 1)
        affirmative = set(next(iter(asked.values())))
        meant = [(answer in affirmative) == self.yes for answer in answers]
        # Where only yes can be said, the rest of the probability is no.
        likely, others = sum(meant) or 1, len(meant) - sum(meant) or 1
        return Scored(tuple(math.log(0.99 / likely if hit else 0.01 / others) for hit in meant), 1)


def run(dialect, yes):
    painter = OneOpinion(dialect, yes)
    return painter, loop.run(painter, stages.begin(painter, "a boat"), 3, seed=1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_always_yes(dialect):
    painter, done = run(dialect, True)
    assert done.ended and len(done.rounds) == 1 and len(painter.paints) == 1
    critique, refinement = done.rounds[0].critique, done.rounds[0].refinement
    assert critique.accepted and critique.margin > 0 and refinement.margin > 0 and not refinement.picture


@pytest.mark.parametrize("dialect", DIALECTS)
def test_always_no(dialect):
    painter, done = run(dialect, False)
    assert not done.ended and len(done.rounds) == 3
    assert all(r.critique.corrects and r.critique.margin < 0 and r.refinement.picture for r in done.rounds)
    assert all(not r.refinement.ended and r.refinement.margin < 0 for r in done.rounds)
    first_pictures = sum(1 for r in done.rounds if r.sketch)
    assert len(painter.paints) == 3 + first_pictures
    # Each repainting goes on from the picture before it.
    assert all(any("picture" in item for item in paint[0]) for paint in painter.paints[1:])

"""Models that always say the same: every run ends within its rounds, repaints at most once a round, and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_painter import ScriptedPainter

from strokes.process import loop, stages
from strokes.process.dialects.reflection import ReflectionDialect
from strokes.process.dialects.unicot import UniCoTDialect
from strokes.process.store import load, save

REFLECTION = ReflectionDialect(system_prompt="A stand-in system prompt.")
UNICOT = UniCoTDialect(system_prompt="A stand-in system prompt.", request_detail="Say it in more detail.")
DIALECTS = {"plain": "plain", "paper": "paper", "miniature": "miniature", "reflection": REFLECTION, "uni-cot": UNICOT}


class Stubborn(ScriptedPainter):
    """Answers every question with ``says``, whatever it is."""

    def __init__(self, says: str, dialect: str):
        super().__init__((), DIALECTS[dialect])
        self.says = says

    def next_reply(self, state) -> str:
        return self.says


class YesOrNo(Stubborn):
    """Writes a good step where it is to write one, and has one opinion of every picture and every end."""

    def next_reply(self, state) -> str:
        last = state[-1] if state else ""
        if "yes or no" in last:
            return self.says
        if "corrects the picture" in last:
            return "To correct it: Paint it blue."
        return "Add a red boat."


def run(painter, rounds=4):
    done = loop.run(painter, stages.begin(painter, "a boat"), rounds, seed=1)
    assert len(done.rounds) <= rounds and len(painter.paints) <= 2 * len(done.rounds)
    assert done.picture, "something was painted"
    for round_ in done.rounds:
        assert (round_.refinement.picture is not None) == round_.critique.corrects if round_.refinement else True
    return done


def reasons(done):
    found = [turn.problem for turn in done.turns if getattr(turn, "problem", "")]
    return " | ".join(found)


def test_a_model_that_says_yes_to_everything_ends_after_one_round():
    done = run(YesOrNo("Yes.", "plain"))
    assert len(done.rounds) == 1 and done.ended and done.rounds[0].critique.accepted and len(done.pictures) == 1


def test_a_model_that_says_no_to_everything_repaints_once_a_round_until_the_rounds_are_used_up():
    painter = YesOrNo("No.", "plain")
    done = run(painter)
    assert len(done.rounds) == 4 and not done.ended and len(painter.paints) == 8
    assert all(r.critique.corrects and r.refinement.picture and r.refinement.margin < 0 for r in done.rounds)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_babbling_model(dialect, tmp_path):
    done = run(Stubborn("blah blah blah blah " * 500, dialect))
    assert reasons(done)
    assert done.cost.tokens <= len(done.rounds) * (64 + 384 + 3 * 128) or dialect == "uni-cot"
    save(done, tmp_path)
    assert reasons(load(tmp_path)) == reasons(done)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_silent_model(dialect):
    done = run(Stubborn("", dialect))
    assert reasons(done) or dialect in ("paper",), "why nothing was corrected or planned"
    if dialect in ("plain", "paper", "miniature"):
        assert "the prompt is painted" in done.rounds[0].plan.problem


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_model_that_is_cut_off_before_it_says_anything(dialect):
    done = run(Stubborn("<think> " + "let me see " * 900, dialect))
    assert reasons(done)


@pytest.mark.parametrize("says", ["Finished.", "Nothing is missing. Finished.", "The painting is complete."])
def test_an_end_before_there_is_a_picture_is_not_accepted(says):
    done = run(Stubborn(says, "plain"))
    first = done.rounds[0]
    assert first.plan.instruction == "a boat" and first.sketch and "before there was a picture" in first.plan.problem
    assert first.plan.origin.author == "model"


def test_a_plan_that_cannot_be_painted_ends_the_work_once_there_is_a_picture():
    painter = ScriptedPainter(["Add a boat.", "Yes", "No", "I'm sorry, but I can't help with that."], "plain")
    done = run(painter)
    assert done.ended and done.end.problem == "refusal" and len(done.rounds) == 1


@pytest.mark.parametrize("says", ["I'm sorry, I cannot see images.", "", "Nothing needs to change.", "?!"])
def test_a_rejection_without_a_correction_is_unreadable_and_nothing_is_repainted(says):
    painter = ScriptedPainter(["Add a boat.", "No", says, "Yes"], "plain")
    done = run(painter, 1)
    critique = done.rounds[0].critique
    assert critique.unreadable and not critique.accepted and not critique.corrects and critique.margin < 0
    assert "wrote no correction" in critique.problem and len(painter.paints) == 1 and done.ended


def test_a_model_without_vision_says_so_and_is_asked_for_no_verdict():
    painter = ScriptedPainter(["Add a boat.", "Add a moon."], "plain")
    painter.profile = replace(painter.profile, sees=False)
    done = run(painter, 2)
    for round_ in done.rounds:
        assert round_.critique.unreadable and "has no vision model" in round_.critique.problem
        assert "has no vision model" in round_.refinement.problem and not round_.refinement.ended
    assert not painter.scores and len(painter.paints) == 2


def test_braces_in_a_step_or_a_prompt_are_text():
    painter = ScriptedPainter(["Write {0} and {prompt!r} on the sign.", "No", "Write {x.y} instead.", "No"], "plain")
    begun = stages.begin(painter, "a sign that says {instruction}")
    done = loop.run(painter, begun, 1)
    assert painter.paints[0][0] == (
        'Write {0} and {prompt!r} on the sign. This is the first step of a picture of "a sign that says {instruction}".',
    )
    assert painter.paints[1][0][-1] == done.rounds[0].critique.correction == "Write {x.y} instead."
    stages.sketch(painter, stages.plan(painter, done, instruction="{0} {"))
    assert painter.paints[2][0][-1] == "{0} {"


@pytest.mark.parametrize("dialect", ["paper", "miniature"])
def test_a_plan_that_is_cut_off_inside_its_tags_says_so(dialect):
    painter = Stubborn("<ins>" + "Add a boat and " * 200 + "</ins>", dialect)
    plan = stages.plan(painter, stages.begin(painter, "a boat")).current_round.plan
    assert plan.instruction.startswith("Add a boat") and plan.problem == "the plan was cut off after 128 tokens"

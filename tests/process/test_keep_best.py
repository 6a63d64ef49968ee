"""Keep the best: a repainted picture is kept only where the model's verdict on it is better."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from PIL import Image
from scripted_painter import CORRECTED, ScriptedPainter

from strokes.process import loop, stages
from strokes.process.settings import Scored
from strokes.process.sheet import contact_sheet
from strokes.process.stages import GivenCritique, GivenRefinement
from strokes.process.store import load, save
from strokes.viewer.page import html_page


class Rating(ScriptedPainter):
    """Rates the first picture ``before`` and the repainted one ``after``, in log-odds."""

    def __init__(self, before: float, after: float):
        super().__init__(["Add a dog.", "To correct it: Paint it blue."], "plain")
        self.ratings = [before, after]
        self.rated: dict[str, float] = {}

    def score(self, state, answers, start=""):
        odds = -5.0 if "finished painting" in state[-1] else self.rated.setdefault(state[0], 0.0)
        if "Answer yes or no" in state[-1] and "finished painting" not in state[-1] and odds == 0.0:
            odds = self.rated[state[0]] = self.ratings.pop(0)
        self.scores.append((state, tuple(answers), start))
        yes = 1 / (1 + math.exp(-odds))
        half = len(answers) // 2
        return Scored(tuple(math.log(p / half) for p in [yes] * half + [1 - yes] * half), 3)


def run(painter, **given):
    t = stages.begin(painter, "a dog")
    t = stages.inspect(painter, stages.sketch(painter, stages.plan(painter, t)), **given)
    return stages.refine(painter, t, given=GivenRefinement(keep_best=True))


def test_a_better_picture_is_kept():
    done = run(Rating(-3.0, -1.0))
    refinement = done.rounds[0].refinement
    assert done.picture is refinement.picture and not refinement.rejected
    assert refinement.repainted_margin == pytest.approx(-1.0, abs=1e-3)
    assert done.rounds[0].critique.margin == pytest.approx(-3.0, abs=1e-3)


@pytest.mark.parametrize("after", [-3.0, -4.0])
def test_a_picture_that_is_no_better_is_not_and_both_stay_in_the_trajectory(after, tmp_path):
    done = run(Rating(-3.0, after))
    refinement = done.rounds[0].refinement
    assert refinement.picture is None and done.picture is done.rounds[0].sketch.picture
    assert [name for name, _ in done.rejected] == ["round1-rejected"]
    save(done, tmp_path)
    again = load(tmp_path)
    assert again.rounds[0].refinement.rejected.digest == refinement.rejected.digest
    assert again.rounds[0].refinement.repainted_margin == pytest.approx(after, abs=1e-3)
    assert f"repainting not kept {after:+.2f}" in html_page(done)
    shown = contact_sheet(done).getcolors(10**6)
    assert any(colour == refinement.rejected.image.getpixel((0, 0)) for _, colour in shown), "the sheet shows it too"


def test_its_verdict_is_counted_and_asks_nothing_twice():
    painter = Rating(-3.0, -1.0)
    done = run(painter)
    assert len(painter.scores) == 3 and done.rounds[0].refinement.origin.cost.scored == 6
    assert painter.scores[1][0][0] == f"picture {done.picture.digest}", "the repainted picture as the step's"


def test_it_is_off_by_default_and_a_setting_of_a_run():
    painter = Rating(-3.0, -4.0)
    off = loop.run(painter, stages.begin(painter, "a dog"), 1)
    assert off.rounds[0].refinement.picture and off.rounds[0].refinement.repainted_margin is None
    painter = Rating(-3.0, -4.0)
    on = loop.run(painter, stages.begin(painter, "a dog"), 1, settings=loop.StageSettings(keep_best=True))
    assert on.rounds[0].refinement.rejected


def test_where_a_person_rejected_the_model_rates_both():
    painter = Rating(2.0, 1.0)
    done = run(painter, given=GivenCritique("correct", correction="Paint it blue."))
    assert done.rounds[0].refinement.rejected and len(painter.scores) == 3


def test_a_model_that_cannot_see_keeps_what_it_paints():
    painter = Rating(-3.0, -4.0)
    painter.profile = replace(painter.profile, sees=False)
    done = run(painter, given=GivenCritique("correct", correction="Paint it blue."))
    assert done.picture is done.rounds[0].refinement.picture and not painter.scores


@pytest.mark.parametrize(("after", "kept"), [(0.5, True), (-0.5, False)])
def test_without_a_verdict_on_the_first_picture_the_new_one_has_to_be_accepted(after, kept):
    painter = Rating(-3.0, after)
    t = stages.begin(painter, "a dog")
    t = stages.sketch(painter, stages.plan(painter, t))
    t = stages.inspect(painter, t, given=GivenCritique("correct", correction="Paint it blue."))
    score = painter.score
    painter.ratings = [after]

    def silent_at_first(state, answers, start=""):
        found = score(state, answers, start)
        first = state[0] == f"picture {t.picture.digest}"
        return Scored(tuple(-30.0 for _ in answers), 1) if first and "finished painting" not in state[-1] else found

    painter.score = silent_at_first
    painter.rated[f"picture {t.picture.digest}"] = 9.0  # leaves the rating to the new picture
    done = stages.refine(painter, t, given=GivenRefinement(keep_best=True))
    assert bool(done.rounds[0].refinement.picture) == kept


def test_a_persons_picture_is_always_kept():
    painter = Rating(-3.0, -4.0)
    t = stages.begin(painter, "a dog")
    t = stages.inspect(painter, stages.sketch(painter, stages.plan(painter, t)))
    mine = Image.new("RGB", (64, 48), "red")
    done = stages.refine(painter, t, given=GivenRefinement(image=mine, keep_best=True))
    assert done.picture.image.getpixel((0, 0)) == (255, 0, 0)


def test_what_is_written_before_the_second_verdict_is_seeded_as_before_the_first():
    painter = ScriptedPainter([*CORRECTED[:2], CORRECTED[1]])
    settings = loop.StageSettings(keep_best=True)
    painter.replies.append("<ins>")
    loop.run(painter, stages.begin(painter, "a dog"), 1, seed=7, settings=settings)
    first, second = (seed for state, _, seed, start in painter.texts[1:] if not start)
    assert first == second == stages.stage_seed(7, 0, "inspect")

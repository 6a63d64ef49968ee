"""What every dialect shows its model, what it asks, and how verdicts are measured."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted_painter import CORRECTED, PLAN, ROUND, ScriptedPainter

from strokes.process import loop, oneshot, stages
from strokes.process.dialects.miniature import ACCEPTS, MINIATURE, REJECTS
from strokes.process.dialects.paper import PAPER
from strokes.process.dialects.plain import PLAIN
from strokes.process.dialects.protocol import PictureSegment
from strokes.process.dialects.session import LEAST_SHARE, StageSession, log_rest, log_sum, stage_seed, verdict_of
from strokes.shapes import critic

# A round of the plain dialect, in which the model says yes, and one in which it says no.
PLAIN_ROUND = ["Add a cat on the left.", "Yes.", "No."]
PLAIN_CORRECTED = ["Add a dog.", "No, it is red.", "To correct it: Paint the dog blue.", "No."]


def outline(segments):
    return " ".join("picture" if isinstance(s, PictureSegment) else s.text.split()[0] for s in segments)


def test_the_paper_sees_every_earlier_picture(two_rounds):
    assert outline(PAPER.segments(two_rounds, "plan")) == "Please <ins>Add picture the picture <ins>Add picture the"


def test_the_miniature_sees_the_last_picture_and_its_round(two_rounds):
    assert outline(MINIATURE.segments(two_rounds, "plan")) == "Please picture"
    sketching = two_rounds.without_last_turn().without_last_turn().without_last_turn()
    seen = MINIATURE.segments(sketching, "sketch")
    assert outline(seen) == "Please picture <ins>Add"
    assert seen[1].picture is two_rounds.rounds[0].refinement.picture
    refining = MINIATURE.segments(two_rounds.without_last_turn(), "refine")
    assert outline(refining) == "Please picture <ins>Add picture the"


@pytest.mark.parametrize(
    ("dialect", "read"), [("plain", "pixels of picture"), ("paper", "picture"), ("miniature", "picture")]
)
def test_a_mere_question_is_read_in_the_form_that_its_dialect_says(dialect, read):
    painter = ScriptedPainter(["Two."], dialect)
    oneshot.ask(painter, Image.new("RGB", (64, 48)), "how many?")
    (state, *_) = painter.texts[0]
    assert state[0].rsplit(" ", 1)[0] == read and state[1] == "how many?"


@pytest.mark.parametrize("dialect", ["plain", "paper", "miniature"])
def test_every_stage_of_a_process_and_an_edit_read_latents_and_pixels(dialect):
    tagged = [*CORRECTED, *ROUND]
    painter = ScriptedPainter([*PLAIN_CORRECTED, *PLAIN_ROUND] if dialect == "plain" else tagged, dialect)
    loop.run(painter, stages.begin(painter, "a dog", image=Image.new("RGB", (64, 48))), 2)
    oneshot.edit_image(painter, Image.new("RGB", (64, 48)), "a cat")
    read = [item for state, *_ in (*painter.texts, *painter.scores, *painter.paints) for item in state]
    forms = [form for item in read if (form := re.fullmatch(r"(.*picture) [0-9a-f]{64}", item))]
    assert len(forms) >= 6 and {form[1] for form in forms} == {"picture"}


def test_what_tells_the_miniatures_verdicts_apart_is_what_its_critic_writes():
    assert all(text.startswith(ACCEPTS) for text in (critic.CORRECT_AND_COMPLETE, critic.CORRECT_SO_FAR))
    assert (critic.PICTURE_WRONG.rstrip("."), critic.STEP_WRONG.rstrip(".")) == REJECTS


def test_the_papers_verdict_is_measured_where_a_correction_would_begin():
    painter = ScriptedPainter(CORRECTED)
    done = loop.run(painter, stages.begin(painter, "a dog"), 1)
    critique, (_, answers, start) = done.rounds[0].critique, painter.scores[0]
    assert answers == ("", " <refine>", "<refine>") and start == "the picture is wrong."
    assert critique.correction == "Paint the dog blue." and critique.margin < 0 and not critique.accepted
    assert critique.text == "the picture is wrong. <refine>Paint the dog blue.</refine>"
    assert painter.texts[-1][3] == "the picture is wrong. <refine>"


def test_the_miniatures_verdict_is_measured_before_a_word_is_written():
    painter = ScriptedPainter([CORRECTED[0], f"{REJECTS[1]}. <refine>Paint it blue.</refine>", "<ins>"], "miniature")
    done = loop.run(painter, stages.begin(painter, "a dog"), 1)
    assert painter.scores[0][1:] == ((ACCEPTS, *REJECTS), "") and painter.texts[-1][3] == REJECTS[1]
    assert done.rounds[0].critique.correction == "Paint it blue."


def test_the_end_is_measured_between_the_end_of_the_text_and_a_next_plan():
    painter = ScriptedPainter([*ROUND[:2], ""])
    done = loop.run(painter, stages.begin(painter, "a cat"), 3)
    assert painter.scores[-1][1] == ("", "<ins>") and done.ended and done.rounds[0].refinement.margin > 5
    assert len(done.rounds) == 1 and done.end is None


def test_plain_language_measures_its_verdicts_and_asks_for_a_correction_only_after_a_no():
    painter = ScriptedPainter([*PLAIN_CORRECTED, *PLAIN_ROUND[:2], "Yes."], "plain")
    done = loop.run(painter, stages.begin(painter, "a watercolour of a blue dog"), 3)
    first, second = done.rounds
    assert first.plan.instruction == "Add a dog." and first.critique.correction == "Paint the dog blue."
    assert first.critique.margin < 0 < second.critique.margin and not second.critique.correction
    assert second.refinement.ended and second.refinement.margin > 0
    sketched, refined, _ = painter.paints
    assert sketched[0] == ('Add a dog. This is the first step of a picture of "a watercolour of a blue dog".',)
    assert refined[0][1:] == ("Paint the dog blue.",) and refined[3] == painter.profile.edit
    assert [start for *_, start in painter.texts] == ["", "To correct it:", ""]
    assert "Add a dog." in painter.texts[-1][0][-1], "the next plan knows the steps so far"
    assert done.cost.scored == sum(1 for _ in painter.scores), "one row a question"


def test_finished_is_not_offered_before_there_is_a_picture():
    begun = stages.begin(ScriptedPainter(dialect="plain"), "x")
    assert "Finished" not in PLAIN.segments(begun, "plan")[-1].text
    started = stages.begin(ScriptedPainter(dialect="plain"), "x", image=Image.new("RGB", (64, 48)))
    assert "Finished" in PLAIN.segments(started, "plan")[-1].text


def test_a_preamble_is_no_plan_yet_and_all_of_it_costs_at_most_64_tokens():
    painter = ScriptedPainter(["Sure! Here is the next step:\n\nAdd a red boat.\nThen a sun.", "Yes", "No"], "plain")
    done = loop.run(painter, stages.begin(painter, "a boat"), 1)
    assert done.rounds[0].plan.instruction == "Add a red boat." and "sun" not in done.rounds[0].plan.text
    assert [start for *_, start in painter.texts] == ["", "Sure! Here is the next step:\n"]
    chatter = ScriptedPainter(["Sure!\n" * 500, "Yes", "No"], "plain")
    done = loop.run(chatter, stages.begin(chatter, "a boat"), 1)
    assert done.rounds[0].plan.origin.cost.tokens <= 64 and "the prompt is painted" in done.rounds[0].plan.problem


@given(st.floats(-80, 0), st.floats(-80, 0), st.floats(-5, 5))
def test_a_verdict_is_the_difference_of_two_log_probabilities(yes, no, threshold):
    verdict = verdict_of(yes, no, threshold, "a nor b")
    if math.exp(yes) + math.exp(no) < LEAST_SHARE * 0.999:
        assert verdict.problem and verdict.margin is None and not verdict.yes
    elif math.exp(yes) + math.exp(no) > LEAST_SHARE * 1.001:
        assert verdict.margin == pytest.approx(yes - no - threshold, abs=1e-4)
        assert verdict.yes == (verdict.margin >= 0)


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=6))
def test_logs_of_sums(logs):
    assert math.exp(log_sum(logs)) == pytest.approx(sum(map(math.exp, logs)))
    assert log_rest(-math.log(4)) == pytest.approx(math.log(3 / 4)) and log_sum([]) == -math.inf


def test_a_threshold_moves_the_verdict_and_the_margin_is_measured_from_it():
    for threshold, accepted in ((0.0, True), (50.0, False)):
        dialect = type(PLAIN)(accept_from=threshold)
        painter = ScriptedPainter(["Add a cat.", "Yes", "To correct it: Paint it red.", "No"], dialect)
        done = loop.run(painter, stages.begin(painter, "x"), 1)
        assert done.rounds[0].critique.accepted == accepted
        assert done.rounds[0].critique.margin + threshold == pytest.approx(16.48, abs=0.01)


def test_texts_of_one_stage_are_seeded_apart():
    painter = ScriptedPainter(["a", "b"])
    session = StageSession(painter, stages.begin(painter, "x"), "inspect", 5)
    session.write([])
    session.write([])
    seeds = [seed for _, _, seed, _ in painter.texts]
    assert seeds == [stage_seed(5, 0, "inspect"), stage_seed(5, 0, "inspect/2")]


def test_a_plan_whose_dialect_has_no_end_is_still_a_plan():
    painter = ScriptedPainter([PLAN.format("cat", "cat")])
    assert stages.plan(painter, stages.begin(painter, "x")).current_round.plan.description == "A scene with a cat."

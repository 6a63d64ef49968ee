import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted_painter import CORRECTED, ROUND, ScriptedPainter

from strokes.errors import StrokesError
from strokes.process import loop, oneshot, stages
from strokes.process.dialects import dialect_of
from strokes.process.dialects.plain import PLAIN
from strokes.process.dialects.protocol import PictureSegment
from strokes.process.dialects.tags import MINIATURE, PAPER
from strokes.process.painter import Profile, Written


def outline(segments):
    return " ".join("picture" if isinstance(s, PictureSegment) else s.text.split()[0] for s in segments)


def test_the_paper_sees_every_earlier_picture(two_rounds):
    assert outline(PAPER.segments(two_rounds, "plan")) == ("Please <ins>Add picture The picture <ins>Add picture The")


def test_the_miniature_sees_the_last_picture_and_its_round(two_rounds):
    assert outline(MINIATURE.segments(two_rounds, "plan")) == "Please picture"
    sketching = two_rounds.without_last_turn().without_last_turn().without_last_turn()
    seen = MINIATURE.segments(sketching, "sketch")
    assert outline(seen) == "Please picture <ins>Add"
    assert seen[1].picture is two_rounds.rounds[0].refinement.picture
    assert (
        outline(MINIATURE.segments(two_rounds.without_last_turn(), "refine")) == "Please picture <ins>Add picture The"
    )


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
    painter = ScriptedPainter([*CORRECTED, *ROUND], dialect)
    loop.run(painter, stages.begin(painter, "a dog", image=Image.new("RGB", (64, 48))), 2)
    oneshot.edit_image(painter, Image.new("RGB", (64, 48)), "a cat")
    read = [item for state, *_ in (*painter.texts, *painter.paints) for item in state]
    forms = [form for item in read if (form := re.fullmatch(r"(.*picture) [0-9a-f]{64}", item))]
    assert len(forms) >= 6 and {form[1] for form in forms} == {"picture"}


def test_the_end_is_the_end_token():
    assert PAPER.finished(Written("", 0, True)) and not PAPER.finished(Written("", 1, False))
    assert not PAPER.finished(Written("<ins>", 1, False))


def test_plain_language():
    painter = ScriptedPainter(["1. Add a dog.", "**Paint the dog blue.**", "No.", "Finished."], "plain")
    done = loop.run(painter, stages.begin(painter, "a blue dog"), 3)
    assert done.end and done.rounds[0].plan.instruction == "Add a dog."
    assert done.rounds[0].critique.correction == "Paint the dog blue."
    sketched, refined = painter.paints
    assert sketched[0] == ("Add a dog.",) and sketched[3] == painter.profile.first
    assert refined[0][1:] == ("Paint the dog blue.",) and refined[3] == painter.profile.edit
    assert "Add a dog." in painter.texts[-1][0][-1], "the next plan knows the steps so far"


@pytest.mark.parametrize(
    "text", ["Correct.", "correct", "The picture is correct.", "Correct, all is there.", "Nothing is wrong.", "No.", ""]
)
def test_plain_acceptance(text):
    assert PLAIN.parse_critique(text).accepted


@pytest.mark.parametrize("text", ["Correct the colour of the dog.", "Answer: Paint it blue", "Nothing but a dog"])
def test_plain_correction(text):
    assert not PLAIN.parse_critique(text).accepted


@given(st.text())
def test_plain_parsing_is_total(text):
    plan, critique = PLAIN.parse_plan(text), PLAIN.parse_critique(text)
    assert plan.ends or plan.instruction
    assert critique.accepted == (not critique.correction)


def test_plain_end():
    assert PLAIN.finished(Written("Yes.", 2, True)) and not PLAIN.finished(Written("No", 1, True))


def test_unknown_dialects_are_named():
    with pytest.raises(StrokesError, match="unknown dialect 'runes'; known are paper, miniature, plain"):
        dialect_of(Profile(name="old", dialect="runes"))

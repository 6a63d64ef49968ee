from dataclasses import replace
from time import perf_counter

import pytest

from strokes.process.sheet import contact_sheet
from strokes.process.trajectory import End, Origin, Trajectory
from strokes.process.wording import outcome, shortened
from strokes.viewer.page import html_page


def test_the_sheet_has_a_row_for_every_round(two_rounds):
    one = replace(two_rounds, rounds=two_rounds.rounds[:1])
    assert contact_sheet(two_rounds).height > contact_sheet(one).height
    sketch = two_rounds.rounds[0].sketch.picture.image.getpixel((0, 0))
    assert sketch in {color for _, color in contact_sheet(two_rounds).getcolors(1 << 24)}


def test_every_stage_and_any_text_renders(two_rounds):
    trajectory = two_rounds.with_picture(two_rounds.picture.image)
    while trajectory.rounds:
        contact_sheet(trajectory)
        html_page(trajectory)
        trajectory = trajectory.without_last_turn()
    contact_sheet(Trajectory(prompt="word" * 200 + "\n\n 猫 \x00", size=(64, 64)))


def test_the_page_escapes_every_text(two_rounds):
    evil = '<script>alert("1")</script>'
    plan = replace(two_rounds.rounds[0].plan, instruction=evil, description=evil, problem=evil)
    critique = replace(two_rounds.rounds[0].critique, explanation=evil, correction=evil, problem=evil)
    step = replace(two_rounds.rounds[0], plan=plan, critique=critique)
    page = html_page(replace(two_rounds, prompt=evil, model=evil, rounds=(step,)))
    assert "<script" not in page and page.count("&lt;script&gt;") == 9
    assert page.count("data:image/png;base64,") == 2 and "http" not in page


def test_outcomes(two_rounds):
    assert outcome(two_rounds) == "Finished after 2 rounds."
    open_again = two_rounds.without_last_turn()
    assert outcome(open_again) == "Not finished: refine comes next in round 2."
    assert outcome(open_again.with_end(End(origin=Origin(author="user")))) == "Stopped by hand after 2 rounds."
    assert outcome(Trajectory(prompt="x", size=(8, 8), end=End())) == "The model planned no more after 0 rounds."


def with_text(trajectory, text):
    round_ = trajectory.rounds[0]
    plan = replace(round_.plan, instruction=text, description=text, problem=text)
    critique = replace(round_.critique, explanation=text, correction=text)
    return replace(trajectory, prompt=text, rounds=(replace(round_, plan=plan, critique=critique),))


TEXTS = {"a word": "x" * 100_000, "words": "word " * 200_000, "lines": "a\n" * 100_000, "empty lines": "\n" * 1_000_000}


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_long_texts_are_shown_shortened(two_rounds, text):
    trajectory = with_text(two_rounds, text)
    began = perf_counter()
    sheet, page = contact_sheet(trajectory), html_page(trajectory)
    assert perf_counter() - began < 20  # it was minutes, or all memory
    assert sheet.height < 30_000 and len(page) < 500_000
    assert f"… and {len(text) - 20_000:,} more characters" in page


def test_a_long_text_says_on_the_sheet_how_much_is_left_out():
    assert shortened("a" * 10, 10) == "a" * 10
    assert shortened("a" * 1_010, 10) == "a" * 10 + " … and 1,000 more characters"


@pytest.mark.slow
def test_of_very_many_rounds_the_first_and_the_last_are_shown(two_rounds):
    many = replace(two_rounds, rounds=two_rounds.rounds * 5_000)
    assert contact_sheet(many).height < 35_000
    page = html_page(many)
    assert "Round 1<" in page and "Round 10000<" in page and "… 9,600 rounds left out" in page

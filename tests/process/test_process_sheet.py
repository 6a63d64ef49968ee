from dataclasses import replace

from strokes.process.sheet import contact_sheet, outcome
from strokes.process.trajectory import End, Origin, Trajectory
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
    contact_sheet(Trajectory("word" * 200 + "\n\n 猫 \x00", (64, 64)))


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
    assert outcome(open_again.with_end(End(Origin("user")))) == "Stopped by hand after 2 rounds."
    assert outcome(Trajectory("x", (8, 8), end=End())) == "The model planned no more after 0 rounds."

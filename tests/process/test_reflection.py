"""The wire of UMM-Reflection: what its controller and its painter see, in which order, and what they are forced to begin with.

The expected texts were written from its authors' protocol (forced prefix, score out of ten, canonical reply), with a stand-in
for their system prompt.
"""

from __future__ import annotations

import pytest
from PIL import Image
from scripted_painter import ScriptedPainter

from strokes.errors import StrokesError
from strokes.process import loop, stages
from strokes.process.dialects.choice import find_dialect
from strokes.process.dialects.reflection import ReflectionDialect
from strokes.process.stages import GivenCritique, GivenRefinement
from strokes.process.store import load, save

SYSTEM, PROMPT = "Stand-in system prompt.", "two red boats on a lake"
DIALECT = ReflectionDialect(system_prompt=SYSTEM)


def reply(number, score, action, thinking, source, edit):
    return (
        f"<think>\n[CURRENT_ROUND] Round#{number}\n[SCORE] {score}/10\n[ACTION] {action}\n[THINKING] {thinking}\n"
        f"[SOURCE_IMAGE] Image #{source}\n</think>\n[EDIT] {edit}"
    )


REPLIES = [
    reply(0, 4, "edit", "There is one boat.", 0, "Add a second red boat."),
    reply(1, 7, "edit", "The second boat is blue.", 1, "Paint the second boat red."),
    reply(2, 10, "done", "Both boats are red.", 2, "None"),
]


def wire(painter, done):
    """All that was read, written, scored and painted, with pictures by their names."""
    names = {picture.digest: name for name, picture in done.pictures}

    def seen(state):
        return [names[item.split()[-1]] if item.startswith("picture ") else item for item in state]

    controller = [(seen(state), start) for state, _, _, start in painter.texts]
    scored = [(seen(state), answers, start) for state, answers, start in painter.scores]
    painted = [[seen(branch) for branch in paint[:3]] for paint in painter.paints]
    return controller, scored, painted


@pytest.fixture
def three_rounds():
    painter = ScriptedPainter(REPLIES, DIALECT)
    return painter, loop.run(painter, stages.begin(painter, PROMPT), 3, seed=5)


def test_the_wire_of_three_rounds(three_rounds):
    painter, done = three_rounds
    controller, scored, painted = wire(painter, done)
    r0, r1, r2 = "round1-sketch", "round1-refined", "round2-refined"
    first = [SYSTEM, PROMPT, r0]
    second = [*first, REPLIES[0], r1]
    third = [*second, REPLIES[1], r2]
    # The picture of the prompt, then two edits: each sees its picture and its text alone.
    assert painted == [
        [[PROMPT], [], [PROMPT]],
        [[r0, "Add a second red boat."], [r0], ["Add a second red boat."]],
        [[r1, "Paint the second boat red."], [r1], ["Paint the second boat red."]],
    ]
    scores = tuple(f"{n}/10" for n in range(11))
    opening = "<think>\n[CURRENT_ROUND] Round#{}\n[SCORE] "
    assert scored == [
        (first, scores, opening.format(0)),
        (first, (" done", " edit"), opening.format(0) + "4/10\n[ACTION]"),
        (second, scores, opening.format(1)),
        (second, (" done", " edit"), opening.format(1) + "7/10\n[ACTION]"),
        (third, scores, opening.format(2)),
        (third, (" done", " edit"), opening.format(2) + "10/10\n[ACTION]"),
    ]
    assert controller == [
        (first, opening.format(0) + "4/10\n[ACTION] edit\n[THINKING]"),
        (first, REPLIES[0].removesuffix(" Add a second red boat.")),
        (second, opening.format(1) + "7/10\n[ACTION] edit\n[THINKING]"),
        (second, REPLIES[1].removesuffix(" Paint the second boat red.")),
        (third, opening.format(2) + "10/10\n[ACTION] done\n[THINKING]"),
    ]


def test_the_trajectory_of_three_rounds(three_rounds, tmp_path):
    _, done = three_rounds
    assert done.ended and [bool(r.plan) for r in done.rounds] == [False] * 3
    assert [bool(r.sketch) for r in done.rounds] == [True, False, False]
    assert [r.critique.text for r in done.rounds] == REPLIES
    assert [r.critique.correction for r in done.rounds] == ["Add a second red boat.", "Paint the second boat red.", ""]
    assert done.rounds[1].critique.explanation == "7/10: The second boat is blue."
    assert [r.refinement.ended for r in done.rounds] == [False, False, True]
    assert done.rounds[2].refinement.margin == done.rounds[2].critique.margin > 0
    assert '"version": 2' in save(done, tmp_path).read_text() and [r.critique for r in load(tmp_path).rounds] == [
        r.critique for r in done.rounds
    ]


def test_its_settings_are_those_of_its_authors_evaluation():
    profile = DIALECT.profile
    assert profile["size"] == [512, 512] and profile["rounds"] == 3 and profile["text"]["temperature"] == 0.5
    for kind in ("first", "edit"):
        settings = profile[kind]
        assert (settings["steps"], settings["text_guidance"], settings["image_guidance"]) == (49, 3.0, 1.5)
        assert settings["interval"] == [0.4, 1.0] and settings["shift"] == 3.0


@pytest.mark.parametrize("edit", ["None", "none.", "N/A", "", '"None"', "-"])
def test_an_edit_without_a_text_is_done(edit):
    painter = ScriptedPainter([reply(0, 4, "edit", "Hm.", 0, edit)], DIALECT)
    done = loop.run(painter, stages.begin(painter, PROMPT), 3)
    assert done.ended and done.rounds[0].critique.accepted and "named none" in done.rounds[0].critique.problem
    assert done.rounds[0].critique.text == reply(0, 4, "done", "Hm.", 0, "None") and len(painter.paints) == 1


@pytest.mark.parametrize("edit", ["<think>", "[CURRENT_ROUND] Round#1"])
def test_a_field_in_the_place_of_an_edit_is_unreadable(edit):
    painter = ScriptedPainter([reply(0, 4, "edit", "Hm.", 0, edit)], DIALECT)
    done = loop.run(painter, stages.begin(painter, PROMPT), 1)
    assert done.rounds[0].critique.unreadable and "another field" in done.rounds[0].critique.problem
    assert not done.ended and len(painter.paints) == 1


def test_plan_and_sketch_pass_a_round_without_them_through():
    painter = ScriptedPainter(REPLIES, DIALECT)
    t = loop.run(painter, stages.begin(painter, PROMPT), 1)
    planned = stages.plan(painter, t)
    assert planned.stage == "inspect" and planned.current_round.plan is None
    assert stages.sketch(painter, planned) is planned and len(painter.paints) == 2
    given = stages.sketch(painter, planned, image=Image.new("RGB", (9, 9), "red"))
    assert given.current_round.sketch.origin.author == "user" and given.stage == "inspect"
    instructed = stages.plan(painter, t, instruction="Add a moon.")
    assert instructed.stage == "sketch"
    stages.sketch(painter, instructed)
    assert painter.paints[-1][0][-1] == "Add a moon."


def test_a_persons_description_alone_is_the_step():
    painter = ScriptedPainter(REPLIES, DIALECT)
    plan = stages.plan(painter, stages.begin(painter, PROMPT), description="a calm lake").current_round.plan
    assert (plan.instruction, plan.description, plan.text) == ("a calm lake", "", "a calm lake")
    assert plan.origin.author == "user" and not painter.texts and not plan.problem


def test_a_persons_critique_is_rendered_as_the_controllers():
    painter = ScriptedPainter(REPLIES[1:], DIALECT)
    t = stages.sketch(painter, stages.plan(painter, stages.begin(painter, PROMPT)))
    t = stages.inspect(painter, t, given=GivenCritique("correct", "One boat\nonly.", "Add a boat."))
    assert t.current_round.critique.text == reply(0, 5, "edit", "One boat only.", 0, "Add a boat.")
    t = stages.refine(painter, t)
    assert not t.ended and t.rounds[0].refinement.margin is None and not painter.texts
    t = stages.refine(painter, stages.inspect(painter, stages.plan(painter, t)))
    assert painter.texts[0][0][3] == t.rounds[0].critique.text


def test_a_picture_to_start_from_is_looked_at_first():
    painter = ScriptedPainter([REPLIES[0].replace("Image #0", "given"), REPLIES[2]], DIALECT)
    begun = stages.begin(painter, PROMPT, image=Image.new("RGB", (64, 48), "red"))
    done = loop.run(painter, begun, 2)
    assert done.rounds[0].sketch is None and "[SOURCE_IMAGE] given" in done.rounds[0].critique.text
    assert [name for name, _ in done.pictures] == ["start", "round1-refined"]


def test_a_picture_that_was_not_kept_is_not_seen_and_the_kept_one_is_seen_again():
    worse = reply(1, 1, "edit", "Worse.", 0, "x")
    painter = ScriptedPainter([REPLIES[0], worse, REPLIES[2].replace("#2\n[SCORE]", "#1\n[SCORE]")], DIALECT)
    t = stages.sketch(painter, stages.plan(painter, stages.begin(painter, PROMPT)))
    t = stages.inspect(painter, t)
    t = stages.refine(painter, t, given=GivenRefinement(keep_best=True))
    assert t.rounds[0].refinement.rejected and t.picture is t.rounds[0].sketch.picture
    stages.inspect(painter, stages.plan(painter, t))
    state = painter.texts[-1][0]
    assert state[2] == state[4] == f"picture {t.picture.digest}" and state[3] == REPLIES[0]


def test_a_system_prompt_that_is_not_there_is_named_with_where_to_get_it(tmp_path):
    with pytest.raises(StrokesError, match=r"needs controller_system_prompt.txt in .*UMM-Reflection"):
        find_dialect("reflection", [tmp_path / "dialects"], tmp_path)
    (tmp_path / "controller_system_prompt.txt").write_text(f"{SYSTEM}\n")
    assert find_dialect("reflection", [], tmp_path) == DIALECT
    (tmp_path / "controller_system_prompt.txt").write_text("\n")
    with pytest.raises(StrokesError, match="should hold a text"):
        find_dialect("reflection", [], tmp_path)

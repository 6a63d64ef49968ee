import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted_painter import CORRECTED, ROUND, ScriptedPainter

from strokes.errors import Cancelled, StrokesError
from strokes.process import loop, oneshot, stages
from strokes.process.dialects.paper import PaperDialect
from strokes.process.loop import Events, StageSettings
from strokes.process.settings import PaintOverrides, PaintSettings, TextOverrides, TextSettings
from strokes.process.stages import GivenCritique, GivenRefinement
from strokes.process.trajectory import End, Origin, Plan

RED = Image.new("RGB", (10, 10), "red")


def test_a_whole_run(two_rounds):
    first, second = two_rounds.rounds
    assert two_rounds.ended and two_rounds.stage == "ended" and two_rounds.end is None
    assert (
        first.critique.correction == "Paint the dog blue." and first.refinement.picture and not first.refinement.ended
    )
    assert second.critique.accepted and second.refinement.picture is None and second.refinement.ended
    assert [name for name, _ in two_rounds.pictures] == ["round1-sketch", "round1-refined", "round2-sketch"]
    assert two_rounds.cost.model_calls == 3 * 49


@pytest.mark.parametrize("image", [None, RED])
@pytest.mark.parametrize("dialect", ["paper", "miniature"])
def test_round_k_is_the_same_for_any_number_of_rounds(dialect, image):
    script = CORRECTED + ROUND + CORRECTED

    def run(*counts):
        painter = ScriptedPainter(script, dialect)
        trajectory = stages.begin(painter, "x", image=image)
        for count in counts:
            trajectory = loop.run(painter, trajectory, count, seed=3)
        return [picture.digest for _, picture in trajectory.pictures]

    assert run(3) == run(1, 1, 1) == run(2, 1)
    assert run(3)[: len(run(1))] == run(1)
    assert len(set(run(3))) == len(run(3))


def test_a_plan_that_is_the_end_token_ends():
    painter = ScriptedPainter([*ROUND, ""])
    done = loop.run(painter, stages.begin(painter, "x"), 5)
    assert isinstance(done.end, End) and len(done.rounds) == 1 and done.ended


def test_a_finished_trajectory_passes_through(two_rounds):
    painter = ScriptedPainter()
    for stage in (stages.plan, stages.sketch, stages.inspect, stages.refine):
        assert stage(painter, two_rounds) is two_rounds
    assert loop.run(painter, two_rounds, 3) is two_rounds


def test_out_of_order():
    begun = stages.begin(ScriptedPainter(), "x")
    with pytest.raises(StrokesError, match="cannot sketch now: round 1 .* expects plan next"):
        stages.sketch(ScriptedPainter(), begun)
    planned = stages.plan(ScriptedPainter(), begun, instruction="a", description="")
    with pytest.raises(StrokesError, match="expects sketch next"):
        stages.refine(ScriptedPainter(), planned)


def test_begin_refuses_what_cannot_be_painted():
    with pytest.raises(StrokesError, match="empty"):
        stages.begin(ScriptedPainter(), "  ")
    with pytest.raises(StrokesError, match="special token"):
        stages.begin(ScriptedPainter(), "<|im_end|>")
    with pytest.raises(StrokesError, match="multiples of 16"):
        stages.begin(ScriptedPainter(), "x", (64, 50))
    with pytest.raises(StrokesError, match="at most 128"):
        stages.begin(ScriptedPainter(), "x", (144, 64))


def test_begin_sizes():
    assert stages.begin(ScriptedPainter(), "x").size == (64, 48)
    begun = stages.begin(ScriptedPainter(), "x", image=Image.new("RGBA", (500, 250)))
    assert begun.size == (128, 64) and begun.start.image.size == (128, 64) and begun.start.image.mode == "RGB"


def test_plan_overrides():
    begun = stages.begin(ScriptedPainter(), "x")
    given = stages.plan(ScriptedPainter(), begun, instruction="a", description="b").current_round.plan
    assert given == Plan(
        instruction="a", description="b", text="<ins>a</ins><des>b</des>", origin=Origin(author="user")
    )
    painter = ScriptedPainter(["the rest</des>"])
    completed = stages.plan(painter, begun, instruction="a").current_round.plan
    assert (completed.instruction, completed.description) == ("a", "the rest")
    assert completed.origin.author == "user" and completed.origin.cost.tokens
    with pytest.raises(StrokesError, match="special token"):
        stages.plan(ScriptedPainter(), begun, instruction="<|im_end|>")
    described = stages.plan(ScriptedPainter(["<ins>a</ins><des>c</des>"]), begun, description="b").current_round.plan
    assert described.text == "<ins>a</ins><des>b</des>"
    plain = stages.plan(ScriptedPainter(dialect="plain"), begun, instruction="a").current_round.plan
    assert plain.text == "a"


def test_a_plan_that_cannot_be_parsed_is_still_a_turn():
    painter = ScriptedPainter(["paint <something"])
    plan = stages.plan(painter, stages.begin(painter, "x")).current_round.plan
    assert plan.instruction == "paint <something" and plan.problem


def planned():
    return stages.plan(ScriptedPainter(), stages.begin(ScriptedPainter(), "x"), instruction="a", description="b")


def sketched():
    return stages.sketch(ScriptedPainter(), planned(), image=RED)


def test_sketch_override_is_resampled():
    sketch = sketched().current_round.sketch
    assert sketch.picture.image.size == (64, 48) and sketch.picture.latents is None
    assert sketch.origin == Origin(author="user")


def test_verdicts():
    accepted = stages.inspect(ScriptedPainter(), sketched(), given=GivenCritique("accept")).current_round.critique
    assert accepted.accepted and accepted.text == "The step is correct."
    corrected = stages.inspect(
        ScriptedPainter(), sketched(), given=GivenCritique("correct", correction="blue")
    ).current_round.critique
    assert corrected.text == "<refine>blue</refine>" and not corrected.accepted
    with pytest.raises(StrokesError, match="no correction"):
        stages.inspect(ScriptedPainter(), sketched(), given=GivenCritique("correct"))
    with pytest.raises(StrokesError, match='set it to "correct"'):
        stages.inspect(ScriptedPainter(), sketched(), given=GivenCritique(correction="blue"))


def test_refine_overrides():
    critiqued = stages.inspect(ScriptedPainter(), sketched(), given=GivenCritique("accept"))
    painter = ScriptedPainter()
    closed = stages.refine(painter, critiqued, given=GivenRefinement(image=RED, finished=False))
    assert closed.rounds[0].refinement.picture.image.size == (64, 48) and closed.stage == "plan"
    assert not painter.texts and not painter.paints
    assert stages.refine(ScriptedPainter([""]), critiqued).ended


@pytest.mark.parametrize("size", [(64, 50), (0, 48), (256, 48)])
def test_a_canvas_that_is_not_the_models_is_refused_where_a_stage_starts(size):
    """Whatever the trajectory says of the model that it was begun with, and whoever does the stage's work."""
    accepted = GivenCritique("accept")
    starts = {
        stages.plan: (stages.begin(ScriptedPainter(), "x"), {"instruction": "a", "description": "b"}),
        stages.sketch: (planned(), {"image": RED}),
        stages.inspect: (sketched(), {"given": accepted}),
        stages.refine: (
            stages.inspect(ScriptedPainter(), sketched(), given=accepted),
            {"given": GivenRefinement(image=RED, finished=True)},
        ),
    }
    for stage, (trajectory, by_a_person) in starts.items():
        painter = ScriptedPainter(ROUND)
        for persons in ({}, by_a_person):
            with pytest.raises(StrokesError, match=f"canvas {size[0]}×{size[1]}: fake needs sides"):
                stage(painter, replace(trajectory, size=size), **persons)
        assert not painter.texts and not painter.paints


def test_settings_follow_what_is_visible():
    painter = ScriptedPainter(CORRECTED)
    loop.run(painter, stages.begin(painter, "x"), 1)
    assert [paint[3] for paint in painter.paints] == [painter.profile.first, painter.profile.edit]
    assert [text[1].max_tokens for text in painter.texts] == [128, 128, 64], "plan, explanation and correction"


def test_what_a_caller_gives_is_laid_over_the_profile_field_by_field():
    painter = ScriptedPainter(CORRECTED)
    profile = painter.profile
    settings = StageSettings(
        plan=TextOverrides(temperature=0.5),
        sketch=PaintOverrides(steps=3),
        inspect=TextOverrides(max_tokens=9),
        refine=PaintOverrides(steps=4, extrapolate=True),
    )
    done = loop.run(painter, stages.begin(painter, "x"), 1, settings=settings)
    texts = (replace(profile.text, temperature=0.5, max_tokens=128), replace(profile.text, max_tokens=9))
    paints = (replace(profile.first, steps=3), replace(profile.edit, steps=4, extrapolate=True))
    assert tuple(text[1] for text in painter.texts[:2]) == texts
    assert tuple(paint[3] for paint in painter.paints) == paints
    assert painter.texts[2][1] == texts[1], "a person's limit goes before the dialect's"
    recorded = [turn.origin.settings for turn in done.turns]
    resolved = (texts[0], paints[0], texts[1], paints[1])
    assert recorded == [json.loads(json.dumps(asdict(settings))) for settings in resolved]


def test_a_stage_asks_its_dialect_what_the_model_sees(monkeypatch):
    asked, segments = [], PaperDialect.segments
    monkeypatch.setattr(
        PaperDialect, "segments", lambda self, trajectory, what: asked.append(what) or segments(self, trajectory, what)
    )
    painter = ScriptedPainter(CORRECTED)
    loop.run(painter, stages.begin(painter, "x"), 1)
    assert list(dict.fromkeys(asked)) == ["plan", "sketch", "inspect", "refine", "end"]


@pytest.mark.parametrize(("overrides", "settings"), [(PaintOverrides, PaintSettings), (TextOverrides, TextSettings)])
def test_every_setting_can_be_given_or_left_to_the_profile(overrides, settings):
    assert [field.name for field in fields(overrides)] == [field.name for field in fields(settings)]
    assert overrides().over(settings()) == settings()


def test_guidance_contexts():
    painter = ScriptedPainter(CORRECTED + ROUND)
    loop.run(painter, stages.begin(painter, "x", image=RED), 2)
    for main, text_free, image_free, _, _ in painter.paints:
        assert text_free == main[:-1], "all but the last text"
        assert image_free == tuple(text for text in main if not text.startswith("picture"))


def test_stage_seeds_differ():
    seeds = {stages.stage_seed(s, k, name) for s in range(3) for k in range(3) for name in ("plan", "sketch", "end")}
    assert len(seeds) == 27 and all(0 <= seed < 2**63 for seed in seeds)


def test_events_and_cancelling():
    painter, seen, turns = ScriptedPainter(ROUND), [], []

    def cancel(done, total, preview):
        raise Cancelled

    loop.run(painter, stages.begin(painter, "x"), 1, events=Events(lambda *at: seen.append(at), turns.append))
    assert seen == [("plan", 0), ("sketch", 0), ("inspect", 0), ("refine", 0)] and len(turns) == 4
    painter, turns = ScriptedPainter(ROUND), []
    with pytest.raises(Cancelled):
        loop.run(painter, stages.begin(painter, "x"), 1, events=Events(on_turn=turns.append, on_step=cancel))
    assert [turn.stage for turn in turns] == ["sketch"]


def test_another_inspection_takes_the_place_of_the_models():
    given = []

    def accept(sketched):
        given.append(sketched.stage)
        return stages.inspect(painter, sketched, given=GivenCritique("accept", "as I say"))

    painter = ScriptedPainter([ROUND[0], "go on", ""])
    done = loop.run(painter, stages.begin(painter, "x"), 2, inspect=accept)
    assert given == ["inspect"] and done.rounds[0].critique.explanation == "as I say"
    assert done.end and not painter.replies, "the model was asked for no critique"


@pytest.mark.parametrize("rounds", [0, -1, 33])
def test_rounds_are_limited(rounds):
    with pytest.raises(StrokesError, match="from 1 to 32"):
        loop.run(ScriptedPainter(), stages.begin(ScriptedPainter(), "x"), rounds)


def test_a_run_finishes_the_round_in_progress():
    done = loop.run(ScriptedPainter(["Good.", "go on"]), sketched(), 1)
    assert len(done.rounds) == 1 and done.stage == "plan"


def test_replacing_and_taking_back(two_rounds):
    replaced = two_rounds.with_picture(RED)
    assert replaced.ended and replaced.rounds[1].refinement.picture is replaced.picture
    assert replaced.rounds[1].refinement.origin.author == "user"
    assert sketched().with_picture(RED).current_round.sketch.picture.image.size == (64, 48)
    with pytest.raises(StrokesError, match="no picture to replace"):
        planned().with_picture(RED)
    expected = ["refine", "inspect", "sketch", "plan", "refine", "inspect", "sketch", "plan", "plan"]
    trajectory = two_rounds
    for stage in expected:
        trajectory = trajectory.without_last_turn()
        assert trajectory.stage == stage
    stopped = sketched().with_end(End(origin=Origin(author="user")))
    assert stopped.ended and stopped.without_last_turn().stage == "inspect"


def test_oneshot():
    painter = ScriptedPainter(["two cats"])
    assert oneshot.text_to_image(painter, "cats").picture.image.size == (64, 48)
    assert oneshot.edit_image(painter, RED, "a cat").picture.image.size == (16, 16)
    main, text_free, image_free, settings, _ = painter.paints[1]
    assert (main[1], text_free, image_free, settings) == ("a cat", main[:1], ("a cat",), painter.profile.edit)
    assert oneshot.ask(painter, RED, "how many?").text == "two cats"
    with pytest.raises(StrokesError, match="empty"):
        oneshot.text_to_image(painter, " ")


def corrected():
    painter = ScriptedPainter([*CORRECTED[:2], "go on"])
    t = stages.begin(painter, "a dog")
    return painter, stages.inspect(painter, stages.sketch(painter, stages.plan(painter, t)))


def test_a_mask_keeps_what_it_does_not_touch():
    painter, t = corrected()
    mask = np.zeros((96, 128), np.float32)
    mask[0, 33] = 0.1  # the first row of tokens, the second column, at twice the canvas's size
    refined = stages.refine(painter, t, mask=mask)
    preserve = painter.preserved[-1]
    assert preserve.picture is t.picture and refined.picture is not t.picture
    assert preserve.repaint.tolist() == [[False, True, False, False], [False] * 4, [False] * 4]


def test_an_empty_mask_is_refused_whatever_the_verdict():
    painter, t = corrected()
    for now in (t, t.without_last_turn()):
        if now.stage == "inspect":
            now = stages.inspect(painter, now, given=GivenCritique("accept"))
        with pytest.raises(StrokesError, match="the mask is empty"):
            stages.refine(painter, now, mask=np.zeros((64, 64), np.float32))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.data())
def test_tokens_touched_agrees_with_areas(rows, columns, height, width, data):
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width))
    mask[y, x] = 1
    found = stages.tokens_touched(mask, (rows, columns))
    for i in range(rows):
        for j in range(columns):
            down = max(i * height, y * rows) < min((i + 1) * height, (y + 1) * rows)
            across = max(j * width, x * columns) < min((j + 1) * width, (x + 1) * columns)
            assert found[i, j] == (down and across)


def test_another_model_goes_on_where_it_can():
    painter, t = corrected()
    other = ScriptedPainter(["go on"])
    other.profile = replace(other.profile, name="other")
    done = stages.refine(other, t)
    assert done.rounds[0].sketch.origin.model == "fake" and done.rounds[0].refinement.origin.model == "other"
    other.profile = replace(other.profile, max_side=32)
    with pytest.raises(StrokesError, match="canvas 64×48: other needs sides"):
        stages.refine(other, t)

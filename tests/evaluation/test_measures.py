"""Judged rounds, drift and intervals by hand."""

import numpy as np
import pytest
from oracle_painter import OraclePainter

from strokes.evaluation.shapes.benchmark import evaluate
from strokes.evaluation.shapes.measures import MEASURES, counts, difference, estimates
from strokes.evaluation.shapes.trials import Drift, JudgedRound, Trial, drifted, touched
from strokes.evaluation.statistics import RESAMPLES, resamples, sign_test
from strokes.process.trajectory import Cost
from strokes.shapes.drawing import Detection, Shape, detections
from strokes.shapes.language import read_prompt

RED, BLUE, GREEN = (
    Shape(colour="red", kind="circle", x=14, y=14),
    Shape(colour="blue", kind="square", x=46, y=16),
    Shape(colour="green", kind="cross", x=30, y=48),
)


def trial(line, right, seed=0, arm="process", steps=(), pictures=1, ended=None):
    return Trial(
        line=line,
        objects=2,
        seed=seed,
        arm=arm,
        right=right,
        reasons=(),
        pictures=pictures,
        cost=Cost(10 * pictures, 3, 0.5),
        ended=ended,
        steps=tuple(steps),
    )


def measured(*trials):
    return estimates(counts(trials, sorted({t.line for t in trials})))


@pytest.mark.parametrize(
    ("instruction", "names"),
    [
        ("add a red circle left of the blue square", set()),
        ("change the red circle to a blue circle", {"red circle", "blue circle"}),
        ("move the red circle above the blue square and left of the green cross", {"red circle"}),
        ("swap the red circle and the blue square", {"red circle", "blue square"}),
        ("remove the red circle", {"red circle"}),
        ("paint the red circle again", {"red circle"}),
        ("paint the prompt", None),
        ("make it nicer", None),
    ],
)
def test_what_an_instruction_touches(instruction, names):
    assert touched(instruction) == names


@pytest.mark.parametrize(
    ("instruction", "planned", "after", "drift"),
    [
        ("add a green cross", "a red circle, a blue square and a green cross", [RED, BLUE, GREEN], Drift(2, 2, 0)),
        ("add a green cross", "a red circle, a blue square and a green cross",
         [RED.at(14, 16), BLUE.at(50, 16), GREEN], Drift(2, 1, 2)),
        ("add a green cross", "a red circle, a blue square and a green cross", [BLUE, GREEN], Drift(2, 1, 0)),
        ("move the red circle below the blue square", "a red circle and a blue square",
         [RED.at(46, 50), BLUE], Drift(1, 1, 0)),
        ("remove the red circle", "a blue square", [BLUE.at(47, 16)], Drift(1, 1, 1)),
        ("paint the prompt", "a red circle and a blue square", [], Drift(0, 0, 0)),
    ],
)  # fmt: skip
def test_drift_of_what_is_not_touched(instruction, planned, after, drift):
    assert drifted(instruction, read_prompt(planned), detections([RED, BLUE]), detections(after)) == drift


def test_alike_shapes_are_told_apart_by_their_place():
    twin, plan = RED.at(40, 40), read_prompt("three red circles")
    after = [twin.at(40, 41), RED.at(15, 14), RED.at(60, 60)]
    assert drifted("add a red circle", plan, detections([RED, twin]), detections(after)) == Drift(2, 2, 2)
    # Two lie near one and the same shape: only one of them is still there.
    close = detections([RED, RED.at(16, 14)])
    assert drifted("add a red circle", plan, close, detections([RED.at(15, 14)])) == Drift(2, 1, 1)
    # One too many: which of them should go is open.
    assert (
        drifted("add a blue square", read_prompt("a red circle and a blue square"), detections([RED, twin]), [])
        == Drift()
    )


def test_a_shape_that_lost_its_outline_is_not_there_any_more():
    plan = read_prompt("a red circle and a blue square")
    assert drifted("add a blue square", plan, [Detection(RED)], [Detection(RED, clear=False)]) == Drift(1, 0, 0)
    assert drifted("add a blue square", plan, [Detection(RED, clear=False)], [Detection(RED)]) == Drift(0, 0, 0)


def test_a_painter_that_lays_out_anew_drifts_and_one_that_does_not_does_not():
    # Without sides, so that wherever the first shape lies there is room for the second.
    prompts = ["a red circle and a blue square", "a green cross and a black circle"]
    still = evaluate(OraclePainter(errors=0.5), prompts, ("process", "oracle"), seeds=(0, 1, 2))
    assert still.get("step keeps").value == still.get("refinement keeps", "oracle").value == 1
    assert still.get("step keeps").of == 6 and still.get("step shift").value < 0.1
    assert evaluate(OraclePainter(drifts=True), prompts, ("process",), seeds=(0, 1, 2)).get("step keeps").value < 0.4


def test_the_numbers_are_the_painters_own(prompts):
    painter = OraclePainter(errors=0.4, botched=0.2)
    report = evaluate(painter, prompts, seeds=(3,))
    sketches, repainted = painter.sketches, painter.repainted
    assert report.get("exact match", "one-shot").value == painter.one_shots[True] / 24
    assert 0.2 < painter.one_shots[True] / 24 < 0.8 and painter.one_shots.total() == 24
    wrong = sketches[False, False]
    assert (report.get("recall").value, report.get("recall").of) == (1, wrong)
    assert (report.get("precision").value, report.get("right accepted").of) == (1, sketches[True, True])
    assert report.get("accuracy").value == report.get("balanced accuracy").value == 1
    assert report.get("always accepting").value == sketches[True, True] / sketches.total()
    assert report.get("fix rate").value == repainted[False, True] / wrong < 1
    assert report.get("break rate").value is None and report.repaintings() == (repainted[False, True], 0)
    assert sum(n for n, _ in report.faults().values()) == sum(k for _, k in report.faults().values()) == wrong


def test_an_inspector_that_always_accepts_scores_the_constant_answer(prompts):
    painter = OraclePainter(errors=0.4, verdict="accept")
    report = evaluate(painter, prompts, ("process",))
    assert report.get("recall").value == 0 and report.get("recall").of == painter.sketches[False, True] > 0
    assert report.get("accuracy") == report.get("always accepting") and report.get("balanced accuracy").value == 0.5
    assert report.get("right accepted, incomplete").value == 1 and report.get("precision").value is None


def test_an_inspector_that_always_rejects_breaks_what_was_right(prompts):
    painter = OraclePainter(errors=0.3, verdict="reject", botched=0.5)
    report = evaluate(painter, prompts, ("process",))
    repainted = painter.repainted
    broken, kept = repainted[True, False], repainted[True, True]
    assert report.get("right accepted, incomplete").value == 0 and report.get("recall").value == 1
    assert report.get("precision").value == pytest.approx(1 - report.get("always accepting").value)
    assert report.get("break rate").value == broken / (broken + kept) > 0.2
    assert report.get("fixes / break").value == repainted[False, True] / broken


def test_incomplete_states_are_told_apart(prompts):
    report = evaluate(OraclePainter(), prompts, ("process",))
    objects = [len(read_prompt(p).objects) for p in prompts]
    assert report.get("accuracy").of == sum(objects)
    assert report.get("accuracy, incomplete").of == sum(objects) - 24 and report.get("accuracy, complete").of == 24
    by_kind = sum(report.get("accuracy", group=kind).of for kind in {p.kind for p in report.prompts})
    assert by_kind == sum(objects)


def test_pictures_are_held_against_those_needed(prompts):
    assert evaluate(OraclePainter(errors=0.4), prompts, ("process",)).get("pictures / needed").value == 1
    # A process that does not end adds no picture to its planned steps, but two to the least.
    endless = evaluate(OraclePainter(never_ends=True), ["a red circle", "three red circles"], ("process",))
    assert endless.get("pictures / needed").value == 1 and endless.get("pictures / least").value == 2
    # Every right sketch is repainted: two pictures where one was needed.
    assert evaluate(OraclePainter(verdict="reject"), prompts, ("process",)).get("pictures / needed").value == 2
    blind = OraclePainter(errors=0.4, verdict="accept")
    found = evaluate(blind, prompts, ("process",)).get("pictures / needed")
    right, wrong = blind.sketches[True, True], blind.sketches[False, True]
    assert found.value == pytest.approx((right + wrong) / (right + 2 * wrong))


def test_a_plan_against_the_prompt_is_a_wrong_step():
    report = evaluate(OraclePainter(describe=lambda graph: "a black cross"), ["a red circle"], ("process",), rounds=1)
    (step,) = report.trials[0].steps
    assert step.right is False and step.accepted and step.fault.startswith("the step is wrong.")
    # A description may forget a relation of the prompt; the picture may not.
    told = {1: "a red circle", 2: "a blue square left of a red circle"}
    painter = OraclePainter(describe=lambda graph: told[len(graph.objects)])
    report = evaluate(painter, ["a red circle left of a blue square"], ("process",))
    assert not report.trials[0].right and [s.right for s in report.trials[0].steps] == [True, False]


def test_a_repainting_that_returns_to_the_prompt_mends_a_wrong_plan():
    class Mender(OraclePainter):
        def paint_picture(self, state, *rest):
            if "<refine>" in state[-1]:
                state = (state[0], "<ins>x</ins><des>a red circle</des>", *state[-2:])
            return super().paint_picture(state, *rest)

    painter = Mender(describe=lambda graph: "a black cross", verdict="reject")
    (step,) = evaluate(painter, ["a red circle"], ("process",), rounds=1).trials[0].steps
    assert (step.right, step.accepted, step.refined) == (False, False, True)


def test_unreadable_plans_are_not_judged():
    class Mumbling(OraclePainter):
        def write_text(self, *rest, **more):
            written = super().write_text(*rest, **more)
            return type(written)(written.text.replace("<des>", "<des>some "), written.tokens, written.ended)

        def paint_picture(self, state, *rest):
            state = tuple(s.replace("<des>some ", "<des>") if isinstance(s, str) else s for s in state)
            return super().paint_picture(state, *rest)

    report = evaluate(Mumbling(), ["a red circle"], ("process", "oracle"))
    assert [s.right for t in report.trials for s in t.steps] == [None, None]
    assert report.get("accuracy").of == 0 and report.get("accuracy").value is None


def test_precision_recall_and_balance_by_hand():
    steps = [JudgedRound(right=True, complete=True, accepted=True)] * 6
    steps += [JudgedRound(right=True, complete=False, accepted=False)] * 2
    steps += [JudgedRound(right=False, complete=True, accepted=True)]
    steps += [JudgedRound(right=False, complete=False, accepted=False, refined=True)] * 3
    steps += [JudgedRound(right=None, complete=False, accepted=True)]
    found = measured(trial(1, True, steps=steps))
    assert found["precision"].value == 3 / 5 and found["recall"].value == 3 / 4
    assert found["right accepted"].value == 6 / 8 and found["accuracy"].value == 9 / 12
    assert found["balanced accuracy"].value == 0.75 and found["always accepting"].value == 8 / 12
    assert found["right accepted, incomplete"].value == 0 and found["recall, complete"].value == 0
    assert found["fix rate"].value == 1 and found["fixes / break"].value is None
    # One prompt: every resample is the same.
    assert (found["recall"].low, found["recall"].high) == (0.75, 0.75)


def test_intervals_resample_whole_prompts():
    # All seeds of a prompt go together: two prompts, one always right and one never, are 0, ½ or 1.
    found = measured(*(trial(line, line == 1, seed) for line in (1, 2) for seed in range(50)))["exact match"]
    assert (found.value, found.low, found.high, found.of) == (0.5, 0, 1, 100)
    drawn = resamples(2)[:, 0]
    assert set(drawn) == {0, 1, 2} and np.mean(drawn == 1) == pytest.approx(0.5, abs=0.05)
    assert (resamples(7).sum(1) == 7).all() and len(resamples(7)) == RESAMPLES


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng, covered = np.random.default_rng(0), []
    for _ in range(200):
        table = np.zeros((80, len(MEASURES), 2))
        table[:, 0, 0], table[:, 0, 1] = rng.binomial(3, rng.beta(7, 3, 80)), 3
        found = estimates(table)["exact match"]
        covered.append(found.low <= 0.7 <= found.high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_an_end_without_limit_is_none():
    broken = JudgedRound(right=True, complete=True, accepted=False, refined=False)
    fixed = JudgedRound(right=False, complete=True, accepted=False, refined=True)
    found = measured(trial(1, True, steps=[broken]), *(trial(line, True, steps=[fixed]) for line in range(2, 8)))
    assert found["fixes / break"].value == 6 and found["fixes / break"].high is None


def test_differences_are_paired():
    # One arm is right wherever the other is, and on one prompt of four more.
    one = counts([trial(line, line < 3, arm="one-shot") for line in range(40)], range(40))
    two = counts([trial(line, line < 13) for line in range(40)], range(40))
    found = difference(two, one)
    assert found.value == 0.25 and 0.1 < found.low < 0.25 < found.high < 0.4
    assert difference(one, one).high == 0


def test_sign_test_by_hand():
    # Six against one: 2 · (1 + 7) / 2⁷.
    assert sign_test(6, 1) == sign_test(1, 6) == 0.125 and sign_test(0, 0) == sign_test(3, 3) == 1
    assert 0 < sign_test(1500, 900) < 1e-30

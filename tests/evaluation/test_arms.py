"""Every arm with a painter whose truth is known."""

import pytest
from oracle_painter import OraclePainter

from strokes.evaluation.shapes.arms import ARMS
from strokes.evaluation.shapes.benchmark import evaluate
from strokes.shapes.language import read_prompt


def of(report, arm):
    return {(t.line, t.seed): t for t in report.of(arm)}


def test_all_arms_are_right_where_the_painter_is_and_cost_what_they_ask_for(prompts):
    report = evaluate(OraclePainter(), prompts, tuple(ARMS))
    sizes = {i: len(read_prompt(p).objects) for i, p in enumerate(prompts, 1)}
    tokens = {"one-shot": 0, "best-of-k": 7, "plan-only": 5}
    # A plan is 5 tokens, a critique 7; the verdict on a picture and the end of a round are scored.
    a_round = {"process": 12, "shuffled": 12, "no-inspect": 5, "oracle": 5}
    scored = {"process": 2, "shuffled": 2, "no-inspect": 1, "oracle": 1, "best-of-k": 1}
    for arm in ARMS:
        trials = report.of(arm)
        assert len(trials) == 24 and all(t.right for t in trials), arm
        for t in trials:
            rounds = sizes[t.line] if arm in a_round else 1
            assert (t.pictures, t.cost.model_calls) == (rounds, 10 * rounds)
            assert t.cost.tokens == (a_round[arm] * rounds if arm in a_round else tokens[arm])
            assert t.cost.scored == scored.get(arm, 0) * rounds
            assert t.cost.seconds > 0 and t.ended is (True if arm in a_round else None)


def test_the_first_candidate_is_the_one_shot_picture_and_later_ones_are_others(prompts):
    painter = OraclePainter(errors=0.5, verdict="reject")
    report = evaluate(painter, prompts, ("one-shot", "best-of-k", "process"))
    one, best, process = (of(report, arm) for arm in ("one-shot", "best-of-k", "process"))
    for key, trial in best.items():
        # Nothing is accepted: the first stands, after as many calls as the process had.
        assert trial.right == one[key].right
        assert trial.cost.model_calls == process[key].cost.model_calls == 10 * trial.pictures
    assert painter.one_shots.total() == 24 + sum(t.pictures for t in best.values())


def test_best_of_k_stops_at_the_first_that_its_inspector_accepts(prompts):
    report = evaluate(OraclePainter(errors=0.4), prompts, ("one-shot", "best-of-k", "process"), seeds=(0, 1))
    one, best, process = (of(report, arm) for arm in ("one-shot", "best-of-k", "process"))
    assert sum(t.right for t in best.values()) > sum(t.right for t in one.values())
    for key, trial in best.items():
        spent, budget = trial.cost.model_calls, process[key].cost.model_calls
        assert (trial.pictures == 1) if one[key].right else (trial.right or spent >= budget)
        assert spent - 10 < budget, "no picture was begun with the calls used up"
    assert any(t.pictures > 1 and t.right for t in best.values())


def test_a_partial_last_candidate_is_finished(prompts):
    class Dear(OraclePainter):
        def paint_picture(self, state, *rest):
            painted = super().paint_picture(state, *rest)
            return (
                painted
                if any("<ins>" in t for t in state if isinstance(t, str))
                else type(painted)(painted.picture, 15)
            )

    report = evaluate(Dear(verdict="reject"), ["two red circles"], ("best-of-k", "process"), rounds=1)
    best, process = report.trials
    assert (process.cost.model_calls, best.cost.model_calls, best.pictures) == (20, 30, 2)


def test_a_process_that_plans_nothing_before_there_is_a_picture_paints_the_prompt():
    class Idle(OraclePainter):
        def write_text(self, state, *rest, **more):
            written = super().write_text(state, *rest, **more)
            return written if len(state) > 1 else type(written)("", 1, True)

    report = evaluate(Idle(), ["a red circle"], ("best-of-k", "process"))
    best, process = report.trials
    assert process.right and process.pictures == best.pictures == 1, "the prompt itself is painted"


def test_without_inspection_errors_stay(prompts):
    painter = OraclePainter(errors=0.4)
    trials = evaluate(painter, prompts, ("no-inspect",)).trials
    assert painter.repainted.total() == painter.sketches.total() == 0
    for trial in trials:
        assert all(s.accepted and s.refined is None for s in trial.steps)
        assert trial.right == trial.steps[-1].right and trial.pictures == len(trial.steps)
    assert 0 < sum(t.right for t in trials) < 24


def test_the_oracle_catches_every_error_that_a_blind_inspector_passes(prompts):
    painter = OraclePainter(errors=0.4, verdict="accept")
    report = evaluate(painter, prompts, ("process", "oracle"))
    assert report.get("exact match", "oracle").value == 1 > report.get("exact match").value
    assert report.get("accuracy", "oracle").value == 1 and report.get("recall").value == 0
    assert painter.repainted.keys() == {(False, True)}


def test_plan_only_paints_the_described_scene_at_once():
    painter = OraclePainter(describe=lambda graph: "a black cross")
    (trial,) = evaluate(painter, ["a red circle"], ("plan-only",)).trials
    assert not trial.right and trial.reasons == ("a red circle is missing", "a black cross is too many")
    assert trial.steps == () and trial.ended is None


def test_shuffled_critiques_are_never_a_prompts_own(prompts):
    painter = OraclePainter(errors=0.5)
    first = evaluate(painter, prompts, ("process",))
    rejections = {p for p, _ in painter.told}
    painter.told.clear()
    report = evaluate(painter, prompts, ("process", "shuffled"))
    told = painter.told[len(painter.told) // 2 :]
    assert of(first, "process") == {k: t.__class__(**{**vars(t), "cost": of(first, "process")[k].cost})
                                    for k, t in of(report, "process").items()}  # fmt: skip
    shuffled = [(prompt, text) for prompt, text in told if f"mend {prompt}<" not in text]
    assert len(shuffled) > 5 and all(any(f"mend {p}<" in text for p in rejections) for _, text in shuffled)
    for trial in report.of("shuffled"):
        assert trial.own_words == 0
        assert not any(f"mend {prompts[trial.line - 1]}" == s.correction for s in trial.steps)
        # The verdict is the model's own, and so is its cost.
        assert all(s.accepted == s.right for s in trial.steps if s.right is not None)
        assert trial.cost.tokens == 12 * len(trial.steps) and trial.cost.scored == 2 * len(trial.steps)


def test_where_no_other_prompt_was_rejected_its_own_critique_stays_and_is_counted():
    painter = OraclePainter(verdict="reject")
    report = evaluate(painter, ["a red circle"], ("process", "shuffled"), rounds=1)
    assert [t.own_words for t in report.trials] == [0, 1]
    assert [text for _, text in painter.told] == ["the picture is wrong. <refine>mend a red circle</refine>"] * 2


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_gives_the_same_for_the_same_seed_and_others_for_another(prompts, arm):
    def pictures(seed):
        painter = OraclePainter(errors=0.3)
        evaluate(painter, prompts[:3], ("process", arm), seeds=(seed,))
        return list(painter.drawn)

    assert pictures(4) == pictures(4) != pictures(5)

"""The evaluation as a whole: what it takes, its report, table, JSON and picture, and the command."""

import json
import sys

import pytest
from oracle_painter import OraclePainter
from PIL import Image

from strokes.cli.main import main
from strokes.errors import StrokesError
from strokes.evaluation.shapes.arms import ARMS
from strokes.evaluation.shapes.benchmark import evaluate
from strokes.evaluation.shapes.examples import choose, save_examples
from strokes.evaluation.shapes.prompts import Prompt, write_prompts
from strokes.evaluation.shapes.report import Example, Report, shares
from strokes.evaluation.shapes.tables import text
from strokes.evaluation.shapes.trials import JudgedRound, Trial
from strokes.process.trajectory import Cost
from strokes.shapes.language import read_prompt
from strokes.shapes.scene_graph import CATEGORIES


def test_rounds_default_to_the_objects_and_two():
    prompts = ["a red circle", "three blue squares"]
    report = evaluate(OraclePainter(never_ends=True), prompts, ("process",))
    assert [t.pictures for t in report.trials] == [3, 5] and report.get("ended by itself").value == 0
    assert [t.pictures for t in evaluate(OraclePainter(), prompts, ("process",), rounds=1).trials] == [1, 1]


def test_prompts_that_cannot_be_read_are_listed_by_line():
    report = evaluate(OraclePainter(), ["", "a red circle", "a pink house", "a blue square"], ("one-shot",))
    assert [t.line for t in report.trials] == [2, 4] and report.get("exact match", "one-shot").value == 1
    assert [line for line, _ in report.unread] == [3] and "line 3: cannot read" in text(report)


@pytest.mark.parametrize(
    ("arms", "more", "says"),
    [
        (("best-of-9",), {}, "unknown arms best-of-9"),
        ((), {}, "(none)"),
        (("one-shot", "best-of-k"), {}, "best-of-k needs the arm process"),
        (("shuffled",), {}, "shuffled needs the arm process"),
        (("process",), {"rounds": 33}, "33 rounds"),
        (("process",), {"seeds": ()}, "seeds"),
        (("process",), {"seeds": (1, 1)}, "seeds 1, 1"),
        (("process",), {"seeds": (-1,)}, "seeds -1"),
    ],
)
def test_bad_arms_rounds_and_seeds_are_errors(arms, more, says):
    with pytest.raises(StrokesError) as raised:
        evaluate(OraclePainter(), ["a red circle"], arms, **more)
    assert says in str(raised.value)


def test_progress_counts_every_painting():
    calls = []
    evaluate(OraclePainter(), ["a red circle", "a blue cross"], seeds=(0, 1), progress=lambda *call: calls.append(call))
    assert [done for done, *_ in calls] == list(range(1, 9)) and {total for _, total, _ in calls} == {8}
    assert {prompt for *_, prompt in calls} == {"a red circle", "a blue cross"}


def test_jobs_may_run_side_by_side_in_any_order(prompts):
    def batched(painter, jobs):
        done = {i: job(painter) for i, job in reversed(list(enumerate(jobs)))}
        return (done[i] for i in range(len(jobs)))

    one, other = (
        evaluate(OraclePainter(errors=0.4), prompts[:8], tuple(ARMS), run_batched=how) for how in (None, batched)
    )
    assert other.batched and "side by side" in text(other) and "side by side" not in text(one)

    def but_seconds(trial):
        return {**vars(trial), "cost": (trial.cost.model_calls, trial.cost.tokens)}

    assert list(map(but_seconds, one.trials)) == list(map(but_seconds, other.trials))
    assert one.get("seconds").value > 0 < other.get("seconds").value
    assert [e.prompt for e in one.examples] == [e.prompt for e in other.examples]


@pytest.fixture(scope="module")
def report(prompts):
    """Everything there is, with errors of every sort."""
    lines = [*prompts[:12], *write_prompts(4, splits=("longer",)), "a pink house"]
    return evaluate(OraclePainter(errors=0.3, botched=0.2), lines, tuple(ARMS), seeds=(0, 1))


def test_the_table_has_every_part_and_is_narrow(report):
    table = text(report)
    assert [line for line in table.splitlines() if len(line) > 110] == []
    for part in (
        *ARMS.values(),
        *CATEGORIES,
        "held out",
        "3 or more",
        "precision",
        "sign test",
        "step keeps",
        "line 17",
    ):
        assert part in table, part
    assert text(Report(arms=(), seeds=(0,), prompts=(), trials=()))
    assert "Inspector" not in text(evaluate_one_arm(report, "one-shot"))


def evaluate_one_arm(report, arm):
    return Report(arms=(arm,), seeds=report.seeds, prompts=report.prompts, trials=tuple(report.of(arm)))


def test_table_and_json_say_the_same(report):
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    right = [t["right"] for t in document["trials"] if t["arm"] == "one-shot"]
    found = document["measured"]["all"]["arms"]["one-shot"]["exact match"]
    assert found["value"] == sum(right) / len(right) and found["of"] == len(right) == 32
    assert shares(report.get("exact match", "one-shot")) in text(report)
    assert len(document["trials"]) == 7 * 32 and len(document["prompts"]) == 16
    assert {p["split"] for p in document["prompts"]} == {"seen", "pairs", "relations", "longer"}
    assert document["measured"]["held out"]["prompts"] == 8 and document["unread"][0]["line"] == 17
    assert {d["other"] for d in document["process above"]} == set(ARMS) - {"process"}


def test_differences_count_what_only_one_arm_painted_right(report):
    for d in report.differences:
        right = {(t.line, t.seed): t.right for t in report.of(d.other)}
        few = {p.line for p in report.prompts if len(p.graph.objects) < 3}
        pairs = [(right[t.line, t.seed], t.right) for t in report.of("process")
                 if d.group == "all" or t.line not in few]  # fmt: skip
        assert (d.won, d.lost) == (pairs.count((False, True)), pairs.count((True, False)))
        assert d.above.value == pytest.approx((d.won - d.lost) / len(pairs))
        assert d.above.low <= d.above.value <= d.above.high


def made(right, *, steps=(), ended=True, count=40):
    """A report of hand-made trials: ``right`` is arm → share of prompts painted right."""
    pictures = len(steps) + sum(s.refined is not None for s in steps)
    wordings = ["three red circles", "a red circle", "a cyan circle"]
    prompts = tuple(Prompt(i, wordings[i % 3], read_prompt(wordings[i % 3])) for i in range(3 * count))
    trials = [
        Trial(
            line=p.line,
            objects=len(steps),
            seed=0,
            arm=arm,
            right=p.line // 3 < share * count,
            reasons=(),
            pictures=pictures,
            cost=Cost(),
            ended=ended,
            steps=tuple(steps),
        )
        for arm, share in right.items()
        for p in prompts
    ]
    return Report(arms=tuple(right), seeds=(0,), prompts=prompts, trials=tuple(trials))


def goals(report):
    return {goal.name: goal.met for goal in report.goals()}


def test_goals_are_answered_one_by_one():
    accepted = JudgedRound(right=True, complete=False, accepted=True)
    caught = JudgedRound(right=False, complete=True, accepted=False, refined=True)
    good = goals(made({"one-shot": 0.5, "best-of-k": 0.7, "process": 1}, steps=[accepted, accepted, caught, caught]))
    assert good.pop("measured on") is False and all(good.values()) and len(good) == 12
    missed = JudgedRound(right=False, complete=False, accepted=True)
    broken = JudgedRound(right=True, complete=False, accepted=False, refined=False)
    bad = goals(
        made({"one-shot": 0.5, "best-of-k": 0.5, "process": 0.5}, steps=[caught, *[broken] * 3, missed], ended=False)
    )
    assert not any(bad.values()) and None not in bad.values()
    none = goals(made({"one-shot": 1.0}))
    assert none.pop("measured on") is False and none["exact match, seen combinations"] is None
    assert set(none.values()) == {None}


def test_a_difference_that_may_be_chance_does_not_meet_its_goal():
    few = goals(made({"one-shot": 0.5, "process": 0.75}, count=4))
    assert few["3 or more: above one-shot"] is False
    assert goals(made({"one-shot": 0.5, "process": 0.75}))["3 or more: above one-shot"] is True


def test_the_full_size_is_recognised():
    prompts = tuple(Prompt(i, t, read_prompt(t)) for i, t in enumerate(write_prompts(8) * 250))
    size = Report(arms=("one-shot",), seeds=(0, 1, 2), prompts=prompts, trials=()).goals()[0]
    assert size.met and size.measured == "2000 prompts, 3 seeds, 4 splits"


def test_examples_show_wins_and_losses(report, prompts, tmp_path):
    one_shot = {t.line: [] for t in report.trials}
    for trial in report.of("one-shot"):
        one_shot[trial.line].append(trial.right)
    wrong = {p.text for p in report.prompts if not all(one_shot[p.line])}
    assert {e.prompt for e in report.examples if e.right == (False, True)} <= wrong
    shown = save_examples(report, tmp_path / "sheet.png")
    assert shown == min(12, len(report.examples)) > 3
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * (2 * 192 + 36)
    same = evaluate(OraclePainter(), prompts[:2])
    assert save_examples(same, tmp_path / "none.png") == 0 and (tmp_path / "none.png").exists()


def test_examples_are_bounded_and_taken_evenly():
    every = [Example(str(i), (None, None), (i % 3 == 0, i % 3 > 0)) for i in range(90)]
    chosen = choose(every)
    wins = [int(e.prompt) for e in chosen if e.right[1]]
    losses = [int(e.prompt) for e in chosen if not e.right[1]]
    assert (wins, losses) == ([1, 16, 31, 46, 61, 76], [0, 15, 30, 45, 60, 75])
    assert [e.prompt for e in choose(every[:9])] == ["1", "2", "4", "5", "7", "8", "0", "3", "6"]
    assert len(choose([e for e in every if e.right[1]])) == 12


@pytest.mark.slow
def test_the_command_writes_prompts_report_and_examples(toy_folder, tmp_path, capsys, monkeypatch):
    def strokes(*args):
        monkeypatch.setattr(sys, "argv", ["strokes", "evaluate", "shapes", *map(str, args), "--model", str(toy_folder)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    file, sheet = tmp_path / "prompts.txt", tmp_path / "sheet.png"
    status, said = strokes(
        "--prompts", file, "--make-prompts", 3, "--arms", "one-shot,process", "--json", "--rounds", 1
    )
    assert status == 0, said.err
    assert len(json.loads(said.out)["trials"]) == 6 and len(file.read_text().splitlines()) == 3
    status, said = strokes("--prompts", file, "--arms", "all", "--seeds", "0, 1", "--rounds", 1, "--examples", sheet)
    assert status == 0 and "oracle (upper bound)" in said.out and sheet.exists()
    for wrong, says in ((("--seeds", "0;1"), "--seeds"), (("--arms", "best-of-k"), "needs the arm process"),
                        (("--make-prompts", 4), "does not overwrite")):  # fmt: skip
        status, said = strokes("--prompts", file, *wrong)
        assert status == 2 and says in said.err

import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from strokes.errors import StrokesError
from strokes.evaluation.shapes import Report, Step, Trial, evaluate, save_examples, wilson, write_prompts
from strokes.process.grammar import parse_plan
from strokes.process.painter import Painted, Picture, Profile, Written
from strokes.process.trajectory import Cost
from strokes.training.scene_graph import CATEGORIES, read_prompt, reserved, sample_layout, write_prompt
from strokes.training.shapes import render
from strokes.training.trajectories import recolour

OPENING = "Please create the image step-by-step: "


class OraclePainter:
    """Draws what it is told with the ground-truth renderer, one object a round. A share ``errors`` of its sketches and
    one-shot pictures has a wrong object, of its repaintings ``botched``; ``verdict`` is "truth", "accept" or "reject".
    It remembers what it did, so that a test knows the truth."""

    profile = Profile("oracle", "miniature", size=(64, 64), max_side=256)

    def __init__(self, errors=0.0, verdict="truth", botched=0.0, never_ends=False, describe=write_prompt):
        self.errors, self.verdict, self.botched = errors, verdict, botched
        self.never_ends, self.describe = never_ends, describe
        self.drawn = {}  # digest → (objects on it, right)
        self.sketches, self.repainted, self.one_shots = Counter(), Counter(), Counter()

    def blank(self):
        return ()

    def read_text(self, state, text):
        self.check_text(text)
        return (*state, text)

    def read_picture(self, state, picture, look_only=False):
        return (*state, picture)

    def check_text(self, text):
        if "<|" in text:
            raise StrokesError("the text contains the special token <|")

    def write_text(self, state, settings, seed, on_text=None, start=""):
        graph = read_prompt(state[0].removeprefix(OPENING))
        on_it = self.drawn[state[-1].digest] if isinstance(state[-1], Picture) else (0, True)
        if len(state) > 2 and isinstance(state[-2], str) and state[-2].startswith("<ins>"):
            accepted = on_it[1] if self.verdict == "truth" else self.verdict == "accept"
            self.sketches[on_it[1], accepted] += 1
            return Written("good." if accepted else "bad. <refine>again</refine>", 7, True)
        if on_it[0] == len(graph.objects) and not self.never_ends:
            return Written("", 1, True)
        after = graph.subgraph(range(min(on_it[0] + 1, len(graph.objects))))
        return Written(f"<ins>go on</ins><des>{self.describe(after)}</des>", 5, settings.max_tokens > 1)

    def paint_picture(self, state, text_free, image_free, size, settings, seed, on_step=None, keep=None):
        rng = np.random.default_rng(seed)
        said = [text for text in state if isinstance(text, str)]
        plan = next((text for text in said if text.startswith("<ins>")), None)
        refining = "<refine>" in said[-1]
        graph = read_prompt(parse_plan(plan).description if plan else said[0])
        shapes = None
        while shapes is None:
            shapes = sample_layout(graph, rng)
        right = bool(rng.random() >= (self.botched if refining else self.errors))
        if not right:
            shapes[-1] = recolour(rng, shapes[-1])[0]
        pixels = (render([shapes])[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        picture = Picture(Image.fromarray(pixels))
        self.drawn[picture.digest] = (len(shapes), right)
        if refining:
            before = next(p for p in reversed(state) if isinstance(p, Picture))
            self.repainted[self.drawn[before.digest][1], right] += 1
        elif plan is None:
            self.one_shots[right] += 1
        return Painted(picture, 10)


@pytest.fixture(scope="module")
def prompts():
    return write_prompts(24, seed=1)


def test_a_painter_that_is_always_right_scores_one(prompts):
    report = evaluate(OraclePainter(), prompts)
    for arm in ("one-shot", "process"):
        assert report.score(arm) == (24, 24)
        assert all(report.score(arm, kind) == (4, 4) for kind in CATEGORIES)
    seen = report.inspector()
    objects = sum(len(read_prompt(p).objects) for p in prompts)
    assert seen["right accepted"] == seen["judged"] == objects and seen["accuracy"] == 1
    assert seen["right but incomplete"] == objects - 24 and seen["accuracy on right but incomplete"] == 1
    assert seen["balanced accuracy"] is None and seen["fix rate"] is None and seen["ended by itself"] == 1
    assert report.paired() == {"only process": 0, "only one-shot": 0, "p": 1.0}


def test_cost_is_counted_per_prompt(prompts):
    report = evaluate(OraclePainter(), prompts)
    objects = sum(len(read_prompt(p).objects) for p in prompts) / 24
    one_shot, process = report.per_prompt("one-shot"), report.per_prompt("process")
    assert (one_shot["pictures"], one_shot["model calls"], one_shot["tokens"]) == (1, 10, 0)
    assert process["pictures"] == pytest.approx(objects) and process["model calls"] == pytest.approx(10 * objects)
    # A plan of 5 tokens and a critique of 7 a round; "end" is 5 tokens where it goes on and 1 where it ends.
    assert process["tokens"] == pytest.approx(17 * objects - 4)
    assert 0 < one_shot["seconds"] < process["seconds"]


def test_the_numbers_are_the_painters_own(prompts):
    painter = OraclePainter(errors=0.4, botched=0.2)
    report = evaluate(painter, prompts, seed=3)
    seen, sketches = report.inspector(), painter.sketches
    assert report.score("one-shot") == (painter.one_shots[True], 24) and 5 < painter.one_shots[False] < 20
    assert report.score("process")[0] > report.score("one-shot")[0]
    assert (seen["right accepted"], seen["wrong rejected"]) == (sketches[True, True], sketches[False, False])
    assert seen["right rejected"] == seen["wrong accepted"] == 0
    assert seen["accuracy"] == seen["balanced accuracy"] == 1
    assert seen["always accepting"] == sketches[True, True] / sketches.total()
    assert painter.repainted[False, False] > 0
    assert seen["fix rate"] == painter.repainted[False, True] / seen["repainted wrong"] and seen["break rate"] is None


def test_an_inspector_that_always_accepts_scores_the_constant_answer(prompts):
    painter = OraclePainter(errors=0.4, verdict="accept")
    seen = evaluate(painter, prompts, ("process",)).inspector()
    assert seen["wrong accepted"] == painter.sketches[False, True] > 0
    assert seen["accuracy"] == seen["always accepting"] < 1 and seen["balanced accuracy"] == 0.5
    assert seen["accuracy on right but incomplete"] == 1 and seen["repainted wrong"] == 0


def test_an_inspector_that_always_rejects_breaks_what_was_right(prompts):
    painter = OraclePainter(errors=0.3, verdict="reject", botched=0.5)
    seen = evaluate(painter, prompts, ("process",)).inspector()
    assert seen["accuracy"] == seen["always rejecting"] == 1 - seen["always accepting"]
    assert seen["accuracy on right but incomplete"] == 0
    assert seen["break rate"] == painter.repainted[True, False] / seen["repainted right"] > 0.2
    assert seen["fix rate"] == painter.repainted[False, True] / seen["repainted wrong"] > 0.2


def test_a_plan_against_the_prompt_is_a_wrong_step():
    painter = OraclePainter(describe=lambda graph: "a black cross")
    seen = evaluate(painter, ["a red circle"], ("process",), rounds=1).inspector()
    assert (seen["wrong accepted"], seen["judged"]) == (1, 1)
    # The description may forget a relation of the prompt; the picture may not.
    told = evaluate(
        OraclePainter(
            describe=lambda graph: "a blue square left of a red circle" if len(graph.objects) > 1 else "a red circle"
        ),
        ["a red circle left of a blue square"],
        ("process",),
    )
    assert told.score("process") == (0, 1) and told.inspector()["wrong accepted"] == 1


def test_a_repainting_that_returns_to_the_prompt_mends_a_wrong_plan():
    class Mender(OraclePainter):
        def paint_picture(self, state, text_free, image_free, size, settings, seed, on_step=None, keep=None):
            if "<refine>" in state[-1]:
                state = (*state[:-2], "<ins>x</ins><des>a red circle</des>", state[-2], state[-1])
                state = tuple(s for s in state if not (isinstance(s, str) and "black" in s))
            return super().paint_picture(state, text_free, image_free, size, settings, seed, on_step)

    painter = Mender(describe=lambda graph: "a black cross", verdict="reject")
    seen = evaluate(painter, ["a red circle"], ("process",), rounds=1).inspector()
    assert (seen["wrong rejected"], seen["fix rate"]) == (1, 1)


def test_unreadable_plans_are_counted_and_not_judged():
    seen = evaluate(OracleWithMumble(), ["a red circle"], ("process",)).inspector()
    assert (seen["unreadable plans"], seen["judged"], seen["accuracy"]) == (1, 0, None)


class OracleWithMumble(OraclePainter):
    def write_text(self, state, settings, seed, on_text=None, start=""):
        written = super().write_text(state, settings, seed, on_text, start)
        return Written(written.text.replace("<des>", "<des>some "), written.tokens, written.ended)

    def paint_picture(self, state, *rest):
        state = tuple(s.replace("<des>some ", "<des>") if isinstance(s, str) else s for s in state)
        return super().paint_picture(state, *rest)


def test_rounds_default_to_the_objects_and_two():
    prompts = ["a red circle", "three blue squares"]
    report = evaluate(OraclePainter(never_ends=True), prompts, ("process",))
    assert [t.pictures for t in report.trials] == [3, 5] and report.inspector()["ended by itself"] == 0
    assert [t.pictures for t in evaluate(OraclePainter(), prompts, ("process",), rounds=1).trials] == [1, 1]


def test_an_end_without_a_picture_is_wrong():
    class Idle(OraclePainter):
        def write_text(self, *_, **__):
            return Written("", 1, True)

    (trial,) = evaluate(Idle(), ["a red circle"], ("process",)).trials
    assert not trial.right and trial.reasons == ("nothing was painted",) and trial.pictures == 0


def test_prompts_that_cannot_be_read_are_listed_by_line():
    report = evaluate(OraclePainter(), ["", "a red circle", "a pink house", "a blue square"], ("one-shot",))
    assert [t.line for t in report.trials] == [2, 4] and report.score("one-shot") == (2, 2)
    assert [line for line, _ in report.unread] == [3] and "line 3: cannot read" in report.table()


@pytest.mark.parametrize("prompts", [[], ["", "  "], ["a pink house"]])
def test_no_prompt_is_an_error(prompts):
    with pytest.raises(StrokesError, match="no prompt to evaluate"):
        evaluate(OraclePainter(), prompts)


@pytest.mark.parametrize(("arms", "rounds"), [(("best-of-9",), None), ((), None), (("process",), 33)])
def test_bad_arms_and_rounds_are_errors(arms, rounds):
    with pytest.raises(StrokesError):
        evaluate(OraclePainter(), ["a red circle"], arms, rounds=rounds)


def test_the_same_seed_paints_the_same_and_progress_counts():
    calls = []
    prompts = ["a red circle", "two blue squares"]
    first = evaluate(OraclePainter(errors=0.5), prompts, seed=4, progress=lambda *call: calls.append(call))
    again = evaluate(OraclePainter(errors=0.5), prompts, seed=4)
    assert [(t.right, t.steps) for t in first.trials] == [(t.right, t.steps) for t in again.trials]
    assert calls == [(i, 4, p) for i, p in enumerate([*(p for p in prompts for _ in range(2)), ""])]


def test_table_and_json_say_the_same(prompts):
    report = evaluate(OraclePainter(errors=0.4), prompts, seed=3)
    document = json.loads(json.dumps(report.to_json()))
    right = document["exact match"]["all"]["one-shot"]["right"]
    assert right == report.score("one-shot")[0] == sum(t["right"] for t in document["trials"] if t["arm"] == "one-shot")
    table = report.table()
    assert f"{right}/24" in table and all(kind in table for kind in CATEGORIES)
    assert max(map(len, table.splitlines())) <= 110


def test_paired_comparison_and_interval_by_hand():
    def trial(line, arm, right):
        return Trial(line, "a red circle", "single", arm, right, (), 1, Cost())

    trials = [trial(i, "one-shot", i == 0) for i in range(7)] + [trial(i, "process", i > 0) for i in range(7)]
    report = Report(("one-shot", "process"), 0, tuple(trials))
    # Six against one: 2 · (1 + 7) / 2⁷.
    assert report.paired() == {"only process": 6, "only one-shot": 1, "p": 0.125}
    assert report.inspector() is None
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3) and wilson(0, 5)[0] == 0 and wilson(5, 5)[1] == 1


def test_balanced_accuracy_by_hand():
    steps = (*[Step(True, True, True)] * 8, *[Step(False, True, True)], *[Step(False, True, False)])
    report = Report(("process",), 0, (Trial(1, "", "single", "process", True, (), 1, Cost(), True, steps),))
    seen = report.inspector()
    assert (seen["accuracy"], seen["balanced accuracy"], seen["always accepting"]) == (0.9, 0.75, 0.8)


def test_examples_show_wins_and_losses(prompts, tmp_path):
    report = evaluate(OraclePainter(errors=0.5), prompts, seed=3)
    one_shot = {t.prompt: t.right for t in report.trials if t.arm == "one-shot"}
    assert {e.prompt for e in report.examples} <= {p for p, right in one_shot.items() if not right}
    shown = save_examples(report, tmp_path / "sheet.png")
    assert shown == min(12, len(report.examples)) > 3
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * (2 * 192 + 36)
    same = evaluate(OraclePainter(), prompts[:2])
    assert save_examples(same, tmp_path / "none.png") == 0 and (tmp_path / "none.png").exists()


@pytest.mark.parametrize("most", [3, 5])
def test_written_prompts_are_distinct_spread_evenly_and_reserved(most):
    prompts = write_prompts(60, seed=7, max_objects=most)
    graphs = [read_prompt(p) for p in prompts]
    assert len(set(prompts)) == 60 and prompts == write_prompts(60, seed=7, max_objects=most) != write_prompts(
        60, seed=8
    )
    assert Counter(g.category for g in graphs) == dict.fromkeys(CATEGORIES, 10)
    assert all(reserved(g) for g in graphs if g.category != "single")
    assert max(len(g.objects) for g in graphs) == most


def test_used_up_kinds_leave_their_share_to_the_others():
    kinds = Counter(read_prompt(p).category for p in write_prompts(300, seed=0))
    assert kinds.total() == 300 and kinds["single"] == 40 and kinds["position"] > 50


@pytest.mark.parametrize(("count", "most"), [(0, 4), (5, 1), (5, 6)])
def test_prompts_that_cannot_be_written_are_errors(count, most):
    with pytest.raises(StrokesError):
        write_prompts(count, max_objects=most)

"""Dialects in ComfyUI: the menu, what is missing before a run, rounds without a plan, and keeping the best."""

from __future__ import annotations

import json

import pytest
import synthetic_bagel as synthetic
import torch
from checkpoints import one_thread
from graphs import inspect, loop, node, one_round, pair, plan, refine, report, sketch, start
from PIL import Image

from strokes.models import open_painter
from strokes.process import loop as process
from strokes.process import stages
from strokes.process.pictures import Picture
from strokes.process.settings import PaintOverrides
from strokes.process.store import save
from strokes.process.trajectory import Critique, Painting, Refinement, Trajectory

SYSTEM = "Stand-in system prompt."
HEAD = "language_model.lm_head.weight"


@pytest.fixture
def reflecting(models, state):
    """A folder with BAGEL's tensors and the name of UMM-Reflection's, without its authors' system prompt. All that it
    writes is " edit" or " done", one token each, and it decides between them by what it sees."""
    profile = {**synthetic.PROFILE, "max_side": 64, "max_text_tokens": 4096}
    head = torch.zeros_like(state[HEAD])
    head[-2] = 4 * torch.randn(head.shape[1], generator=torch.Generator().manual_seed(5))
    head[-1] = -head[-2]
    folder = models / "strokes" / "UMM-Reflection-BAGEL-RL"
    synthetic.write_folder(folder, {**state, HEAD: head}, config=json.dumps({"strokes": profile}))
    tokenizer = synthetic.tokenizer()
    unused = len(head) - tokenizer.get_vocab_size() - 2
    tokenizer.add_tokens([*(f"<unused {number}>" for number in range(unused)), " edit", " done"])
    tokenizer.save(str(folder / "tokenizer.json"))
    prompt = folder / "controller_system_prompt.txt"
    prompt.unlink(missing_ok=True)
    return "UMM-Reflection-BAGEL-RL/ema.safetensors", prompt


def choosing(graph, **inputs):
    graph["model"]["inputs"] |= inputs
    return graph


def test_the_menu_lists_the_built_in_dialects_and_inspect_has_its_margin(fresh):
    schemas = fresh("schemas")
    names = schemas["StrokesLoadModel"]["input"]["optional"]["dialect"][1]["options"]
    assert names[:6] == ["auto", "plain", "paper", "miniature", "reflection", "uni-cot"]
    assert schemas["StrokesInspect"]["output"][4] == "FLOAT" and schemas["StrokesInspect"]["output_name"][4] == "margin"


@pytest.mark.parametrize("dialect", [5, True, {"name": "plain"}, "../plain", "x" * 300])
def test_values_that_are_no_dialect(fresh, dialect):
    error = fresh.fails(choosing(one_round(), dialect=dialect))
    assert "unknown dialect" in error or "one of its options was expected" in error
    assert "Error" not in error


def test_null_leaves_a_new_input_at_its_default(fresh):
    graph = choosing(one_round(refine={"keep_best": None}), dialect=None)
    assert fresh.run(graph)["reports"][0]["pictures"] == fresh.run(one_round())["reports"][0]["pictures"]


def test_an_unknown_dialect_and_one_whose_words_the_tokenizer_lacks_are_named(fresh):
    assert "unknown dialect 'runes'; known are plain" in fresh.fails(choosing(one_round(), dialect="runes"))
    error = fresh.fails(choosing(one_round(), dialect="plain"))
    assert "the tokenizer has no token for 'Yes', which the dialect plain asks for: choose another" in error


@pytest.mark.slow
def test_a_persons_dialect_file_is_read_and_its_mistakes_are_named_before_the_run(fresh, models):
    folder = models / "strokes" / "dialects"
    folder.mkdir(parents=True, exist_ok=True)
    graph = choosing(one_round(), dialect="strict")
    (folder / "strict.json").write_text(json.dumps({"based_on": "miniature", "accept_from": 50}))
    rejected = fresh.run({**graph, "report": report(trajectory=["inspect", 0])})["reports"][0]
    (folder / "strict.json").write_text(json.dumps({"based_on": "miniature", "accept_from": -50}))
    accepted = fresh.run({**graph, "report": report(trajectory=["inspect", 0])})["reports"][0]
    assert rejected["texts"][-1] != accepted["texts"][-1], "a changed file is read again"
    (folder / "strict.json").write_text(json.dumps({"based_on": "miniature", "accept_from": "much"}))
    error = fresh.fails(graph)
    assert "strict.json" in error and "'accept_from' should be a number from -50 to 50" in error
    (folder / "strict.json").unlink()


@pytest.mark.slow
def test_a_system_prompt_that_is_missing_is_named_before_the_run(fresh, reflecting):
    name, prompt = reflecting
    found = fresh("run", prompt=one_round(begin={"checkpoint": name}))
    assert "controller_system_prompt.txt" in str(found["invalid"]) and "UMM-Reflection" in str(found["invalid"])


@pytest.mark.slow
def test_rounds_without_a_plan_pass_through_plan_and_sketch_and_equal_the_command_line(fresh, reflecting, models):
    """Three rounds of the Loop node: what a reflecting model sees and paints is the same there and here."""
    name, prompt = reflecting
    prompt.write_text(SYSTEM)
    graph = loop(rounds=3)
    graph["model"]["inputs"]["checkpoint"] = name
    found = fresh.run(graph)["reports"][0]
    painter = open_painter(prompt.parent)
    assert painter.dialect.name == "reflection"
    settings = process.StageSettings(sketch=PaintOverrides(steps=4), refine=PaintOverrides(steps=4))
    begun = stages.begin(painter, graph["begin"]["inputs"]["prompt"])
    with one_thread():
        done = process.run(painter, begun, 3, settings=settings)
    assert len(done.rounds) == 3 and any(round_.critique.corrects for round_ in done.rounds[1:]), "it repaints"
    assert found["texts"] == [turn.text for turn in done.turns if getattr(turn, "text", "")]
    assert found["pictures"] == [picture.digest for _, picture in done.pictures]
    assert [bool(round_.plan) for round_ in done.rounds] == [False] * len(done.rounds)
    prompt.unlink()


@pytest.mark.slow
def test_keep_best_and_the_margin_on_the_nodes(fresh):
    """On the loop and on Refine alike: a repainting that the model likes no better is not handed on."""
    correct = {"verdict": "correct", "correction": "change the red circle to a blue circle"}
    base = {
        **start(),
        "plan": plan(["begin", 0]),
        "sketch": sketch(["plan", 0]),
        "look": inspect(["sketch", 0]),
        "inspect": inspect(["sketch", 0], **correct),
    }
    kept = {**base, "refine": refine(["inspect", 0], keep_best=True), "report": report(trajectory=["refine", 0])}
    plain = {**base, "refine": refine(["inspect", 0]), "report": report(trajectory=["refine", 0])}
    with_best, without = (fresh.run(graph)["reports"][0] for graph in (kept, plain))
    assert len(without["pictures"]) == 2 and with_best["pictures"] == without["pictures"][:1]
    assert fresh.run(loop(rounds=2, keep_best=True))["reports"][0]["pictures"]


def test_of_a_round_that_only_looked_again_the_last_picture_is_the_one_it_looked_at(fresh, base):
    """A loaded trajectory of version 2, its second round without plan, sketch and repainting."""
    accepted = Critique(text="It is right.", explanation="It is right.", margin=2.0)
    first, second = (Picture(Image.new("RGB", (64, 64), colour)) for colour in ("red", "blue"))
    work = Trajectory(prompt="a red circle", size=(64, 64)).with_plan(None).with_sketch(Painting(first))
    corrects = Critique(text="It is red.", explanation="It is red.", correction="Make it blue.", accepted=False)
    work = work.with_critique(corrects).with_refinement(Refinement(picture=second))
    work = work.with_plan(None).with_critique(accepted).with_refinement(Refinement(ended=True))
    save(work, base / "output" / "looked")
    graph = {
        "load": node("StrokesLoadTrajectory", path="looked"),
        "report": report(trajectory=["load", 0]),
        "turn": node("StrokesGetTurn", trajectory=["load", 0], round=0, picture="last"),
        "before": node("StrokesGetTurn", trajectory=["load", 0], round=1, picture="refined"),
        "seen": report(image=["turn", 0]),
        "straight": report(image=["before", 0]),
    }
    reports = fresh.run(graph)["reports"]
    seen = [each["image"] for each in reports if "image" in each]
    assert len(seen) == 2 and len(set(seen)) == 1
    assert any(each.get("rounds") == 2 and each["ended"] for each in reports)
    graph["turn"]["inputs"]["picture"] = "sketch"
    assert "round 2 has no picture 'sketch'; it has: last" in fresh.fails(graph)


@pytest.mark.slow
def test_nodes_between_loop_start_and_loop_end_in_rounds_without_a_plan(fresh, reflecting):
    """Replace Image and Get Turn in a loop whose later rounds have neither plan nor sketch."""
    name, prompt = reflecting
    prompt.write_text(SYSTEM)
    turn = {"turn": node("StrokesGetTurn", trajectory=["refine", 0], round=0, picture="last")}
    graph = pair(3, body={**turn, "seen": report(image=["turn", 0])})
    graph["model"]["inputs"]["checkpoint"] = name
    found = fresh.run(graph)["reports"]
    done = next(each for each in found if "pictures" in each)
    assert done["rounds"] == 3 and len(done["pictures"]) == 4, "a sketch and three repaintings"
    assert "user" in done["authors"], "what was put back is a person's"
    assert len([each for each in found if "pictures" not in each]) == 3, "every round has a last picture"
    prompt.unlink()

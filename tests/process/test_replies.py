"""The parser of free-form replies: the whole corpus, any text whatsoever, and what must not change a reading."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strokes.process.dialects.replies import Step, one_line, read_correction, read_plan

LINES = Path(__file__).with_name("replies.jsonl").read_text(encoding="utf-8").splitlines()
REPLIES: list[dict[str, Any]] = [json.loads(line) for line in LINES]
REASONS = {"empty", "babble", "refusal", "nothing to correct", "question", "echo", "cut off", "no instruction"}


def read(asked: str, text: str, ended: bool = True) -> Step:
    return (read_plan if asked == "plan" else read_correction)(text, ended)


def comparable(step: str) -> str:
    """As replies.md compares steps: whitespace collapsed, without the case of the first letter and a closing full stop."""
    step = " ".join(step.split()).removesuffix(".").removesuffix("。")
    return step[:1].lower() + step[1:]


def becomes(step: Step) -> dict[str, Any]:
    if step.instruction:
        return {"step": comparable(step.instruction)}
    return {"finished": True} if step.finished else {"unusable": step.problem}


def expected(reply: dict[str, Any]) -> dict[str, Any]:
    wanted: dict[str, Any] = reply["becomes"]
    return {"step": comparable(wanted["step"])} if "step" in wanted else wanted


def is_one_thing(step: Step) -> bool:
    return [bool(step.instruction), step.finished, bool(step.problem)].count(True) == 1


@pytest.mark.parametrize("asked", ["plan", "correction"])
def test_every_reply_of_the_corpus_is_read_as_it_says(asked):
    replies = [reply for reply in REPLIES if reply["asked"] == asked]
    assert len(replies) > 100
    wrong = [
        f"{reply['id']}: {reply['reply']!r} is read as {got}, not {expected(reply)}"
        for reply in replies
        if (got := becomes(read(asked, reply["reply"], reply["ended"]))) != expected(reply)
    ]
    assert not wrong, "\n".join(wrong)


MARKUP = [
    "<think>",
    "</think>",
    "<answer>",
    "**",
    "*",
    "_",
    "`",
    "```",
    "#",
    "- ",
    "1. ",
    "2) ",
    "> ",
    "[",
    "]",
    "(",
    ")",
]
MARKUP += [
    '"',
    "'",
    "“",
    "”",
    "«",
    "「",
    "」",
    ": ",
    "; ",
    ", ",
    " - ",
    "—",
    ".",
    "!",
    "?",
    "。",
    "？",
    "\n",
    "\u200b",
    "\x00",
]
WORDS = [
    "Add",
    "a",
    "tree",
    "the",
    "it",
    "is",
    "finished",
    "not",
    "Sure",
    "Next",
    "step",
    "I",
    "cannot",
    "one",
    "添加",
    "下一步",
    "Finished",
]
ASSEMBLED = st.lists(st.sampled_from([*MARKUP, *WORDS, " "]), max_size=40).map("".join)


@settings(max_examples=60)
@given(st.one_of(st.text(), ASSEMBLED), st.booleans())
def test_any_text_becomes_one_thing(text, ended):
    plan, correction = read_plan(text, ended), read_correction(text, ended)
    for step in (plan, correction):
        assert is_one_thing(step)
        assert step.instruction == one_line(step.instruction)
        assert len(step.instruction) <= 400
        assert not step.problem or step.problem in REASONS
    assert not correction.finished
    assert plan.problem != "nothing to correct"


RUNS = [
    "a", " ", "\n", ".", "?", ",", "1", "*", "_", "#", "`", '"', "'", "“", "«", "(", "[", "{", "<", "—", "我", "。",
    "😀", "\u200b", "\x00", "<think>", "</think>", "- ", "1. ", "* ", "**a", "a_", "'a", "(a", "<a", ": ", "; ", " - ",
    "e.g. ", "Z. ", "word ", "a, ", "Sure, ", "Sure! ", "Add a ", "Add a tree. ", "Step 1: ", "as a x ",
    "the correct ", "if ", "to paint ", "i can x ", "it is x and ", "nothing is ", "now ", "The next step is ",
    "The sofa is done; add a tree; ", "What? ", "To correct it: ",
]  # fmt: skip


def test_a_long_reply_is_read_at_once():
    """A pattern that takes quadratic time takes minutes for one of these."""
    slow = {}
    for run in RUNS:
        text = run * (1_000_000 // len(run))
        start = time.perf_counter()
        assert is_one_thing(read_plan(text, ended=False)), run
        if (seconds := time.perf_counter() - start) > 1:
            slow[run] = seconds
    assert not slow


# The replies in which nothing stands around the step but sentences.
BARE = [
    reply
    for reply in REPLIES
    if reply["kind"] in ("plain", "several-sentences") and "step" in reply["becomes"] and reply["ended"]
]
WRAPPERS = {
    "quotes": "“{}”",
    "straight quotes": '"{}"',
    "backticks": "`{}`",
    "emphasis": "**{}**",
    "fence": "```\n{}\n```",
    "number": "1. {}",
    "bullet": "- {}",
    "star": "* {}",
    "label": "Next step: {}",
    "bold label": "**Instruction:** {}",
    "step number": "Step 2 - {}",
    "answer tag": "<answer>{}</answer>",
    "chat mark": "{}<|im_end|>",
    "preamble": "Sure! {}",
    "line of preamble": "Of course! Here is the next step:\n\n{}",
    "verdict": "No. {}",
    "thought": "<think>Add a tree? It is finished.</think>{}",
    "thought on lines of its own": "<think>\nThe moon is missing.\n</think>\n\n{}",
    "white space": "\n  {}\t\n",
    "everything": "<think>hm</think>Sure! Here is the next step:\n1. **Step 1:** “{}”",
}


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_what_stands_around_a_reply_does_not_change_its_reading(wrapper):
    assert len(BARE) > 30
    wrong = [
        f"{text!r} is read as {got}, not {expected(reply)}"
        for reply in BARE
        if (got := becomes(read(reply["asked"], text := wrapper.format(reply["reply"])))) != expected(reply)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_the_case_of_the_first_letter_does_not_change_a_reading(change):
    for reply in BARE:
        text = change(reply["reply"][0]) + reply["reply"][1:]
        assert becomes(read(reply["asked"], text)) == expected(reply)


def test_a_reading_is_read_as_itself():
    """So a step that the model reads back, or a person corrects, stays what it is."""
    for reply in BARE:
        step = read(reply["asked"], reply["reply"])
        assert read(reply["asked"], step.instruction) == step


def test_a_correction_is_never_finished():
    assert read_plan("Finished.") == Step(finished=True)
    assert read_correction("Finished.") == Step(problem="nothing to correct")


def test_a_long_instruction_ends_with_a_sentence_or_a_word():
    words = " ".join(["Add a row of very small red boats along the shore"] + ["and another row behind it"] * 40)
    cut = read_plan(words).instruction
    assert 380 < len(cut) <= 400
    assert words.startswith(f"{cut} ")
    told = f"The moon is {'much ' * 70}too large."
    assert read_plan(f"{told} Make it {'much ' * 30}smaller.").instruction == told
    assert len(read_plan("Add " + "a" * 1000).instruction) <= 400


def test_one_line():
    assert one_line(" a\r\n\tb\x00\x1bc\u2028d \x85") == "a b c d"
    assert one_line("\n \x7f") == ""


# Readings that differ by a word. Beyond the corpus: these were written with sight of the parser.
NEAR = [
    ("There is no painting on the wall.", "There is no painting on the wall."),
    ("No changes to the painting are needed.", True),
    ("Nothing is missing.", True),
    ("Nothing is missing except the moon.", "Nothing is missing except the moon."),
    ("The painting is not finished yet.", "no instruction"),
    ("I don't see anything missing.", True),
    ("I don't see a moon.", "I don't see a moon."),
    ("I can't see the image.", "refusal"),
    ("A cat sits on a red sofa.", "no instruction"),
    ("A cat that sits on a red sofa.", "A cat that sits on a red sofa."),
    ("You painted the sky blue.", "no instruction"),
    ("You should paint the sky blue.", "You should paint the sky blue."),
    ("This would make the sky livelier.", "no instruction"),
    ("A moon would make the sky livelier.", "A moon would make the sky livelier."),
    ("Finish the painting.", "no instruction"),
    ("Finish the fence.", "Finish the fence."),
    ("Add some fruit, such as apples.", "Add some fruit, such as apples."),
    ("These steps were painted: Paint snow. Add a fox. What should be added or changed next?", "echo"),
    ("Silhouette the trees against the sunset.", "Silhouette the trees against the sunset."),
    ('Write "Stop! Go!" on the board.', 'Write "Stop! Go!" on the board.'),
    ("Paint the U.S. flag at 5 p.m. on the pole.", "Paint the U.S. flag at 5 p.m. on the pole."),
    ("Great work so far!", "no instruction"),
    ("请提供图片。", "question"),
    ("画面中缺少一只猫。", "画面中缺少一只猫。"),
    ("修正房子的颜色。", "修正房子的颜色。"),
    ("修正：添加一棵树。", "添加一棵树。"),
]


@pytest.mark.parametrize(("text", "wanted"), NEAR, ids=[re.sub(r"\W+", "-", text)[:40] for text, _ in NEAR])
def test_readings_that_differ_by_a_word(text, wanted):
    step = read_plan(text)
    assert (step.instruction or step.problem or step.finished) == wanted

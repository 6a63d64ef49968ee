"""The answers of every dialect in the tokens of the published models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strokes.bagel.engine.text import answer_tree
from strokes.bagel.painter import answer_ids
from strokes.bagel.weights.checkpoint import load_tokenizer
from strokes.bagel.weights.speech import check_answers
from strokes.models import EMBEDDED
from strokes.process.dialects.choice import READY
from strokes.process.dialects.reflection import ReflectionDialect
from strokes.process.dialects.unicot import UniCoTDialect

DIALECTS = [
    *READY.values(),
    ReflectionDialect(system_prompt="A stand-in system prompt."),
    UniCoTDialect(system_prompt="A stand-in system prompt.", request_detail="Say it in more detail."),
]


@pytest.fixture(scope="module")
def qwen():
    root = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy" / "ComfyUI"))
    folder = root / "comfy" / "text_encoders" / "qwen25_tokenizer"
    if not (folder / "vocab.json").exists():
        pytest.skip("no Qwen2.5 tokenizer: set COMFYUI_PATH to a ComfyUI checkout")
    return load_tokenizer(folder)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_no_answer_begins_with_another_in_qwens_tokens(dialect, qwen):
    check_answers(dialect, qwen, Path("BAGEL-7B-MoT"))
    for answers in dialect.answers:
        spellings = [spelling for each in answers.values() for spelling in each]
        ids = list(dict.fromkeys(tuple(answer_ids(qwen, spelling)) for spelling in spellings))
        assert len(ids) == len(spellings), "each spelling is written with tokens of its own"
        answer_tree(1, 2, (), ids)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "answer", "text"),
    [
        ("", "<ins>", "<ins>Add a boat.</ins>"),
        ("", "<ins>", "<ins>Paint a boat.</ins>"),
        ("The boat is wrong.", " <refine>", "The boat is wrong. <refine>A blue boat.</refine>"),
        ("<sugg", ">No editing", "<sugg>No editing is needed.</sugg>"),
        ("<sugg", ">Everything is good", "<sugg>Everything is good.</sugg>"),
        ("[ACTION]", " done", "[ACTION] done\n"),
        ("[SCORE] ", "4/10", "[SCORE] 4/10\n"),
        ("", "Yes", "Yes."),
        ("", " no", " no, it is not"),
    ],
)
def test_an_answer_is_counted_in_the_tokens_in_which_its_text_is_written(start, answer, text, qwen):
    written = qwen.encode(text, add_special_tokens=False).ids
    before = qwen.encode(start, add_special_tokens=False).ids
    counted = answer_ids(qwen, answer)
    assert counted and written[: len(before) + len(counted)] == before + counted


def test_a_tag_that_is_one_token_is_counted_whole():
    tokenizer = load_tokenizer(EMBEDDED)
    assert answer_ids(tokenizer, " <refine>") == [tokenizer.token_to_id("<refine>")]
    assert answer_ids(tokenizer, "") == []

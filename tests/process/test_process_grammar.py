from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strokes.errors import StrokesError
from strokes.process.grammar import (
    ParsedCritique,
    ParsedPlan,
    parse_critique,
    parse_plan,
    readable,
    write_critique,
    write_plan,
)

PIECES = ["<ins>", "</ins>", "<INS>", "< des >", "</des>", "<\\des>", "<refine>", "<\\refine>", "<refine/>", "<", ">"]
messy = st.lists(st.sampled_from([*PIECES, "add a cat", " ", "\n"]) | st.text(max_size=5), max_size=12).map("".join)
tag_free = st.text(alphabet=st.characters(exclude_characters="<"), max_size=40).map(str.strip)


@given(messy)
def test_any_text_is_a_plan_or_a_problem(text):
    plan = parse_plan(text)
    assert plan.ends == (not text.strip())
    assert plan.ends or plan.problem or plan.instruction


@given(messy)
def test_any_text_is_a_critique(text):
    critique = parse_critique(text)
    assert critique.explanation == critique.explanation.strip() and critique.correction == critique.correction.strip()


@given(tag_free.filter(bool), tag_free)
def test_plan_round_trip(instruction, description):
    assert parse_plan(write_plan(instruction, description)) == ParsedPlan(instruction, description)


@given(tag_free, tag_free)
def test_critique_round_trip(explanation, correction):
    parsed = parse_critique(write_critique(explanation, correction))
    assert parsed == ParsedCritique(explanation, correction)


@pytest.mark.parametrize(
    ("text", "instruction", "description"),
    [
        ("<ins>a</ins><des>b</des>", "a", "b"),
        ("Sure! <INS> a < / ins >\n<Des>b", "a", "b"),
        ("<ins>a<des>b", "a", "b"),
        ("<ins>a<\\ins><des>b<\\des>", "a", "b"),
        ("<ins>a</ins>", "a", ""),
        ("<ins><ins>a</ins></ins><des>b</des><ins>c</ins>", "a", "b"),
    ],
)
def test_variants_of_a_plan(text, instruction, description):
    assert parse_plan(text) == ParsedPlan(instruction, description)


def test_a_plan_without_tags_keeps_its_words():
    plan = parse_plan(" Add a cat. ")
    assert plan.instruction == "Add a cat." and "<ins>" in plan.problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("All is well.", ParsedCritique("All is well.")),
        ("Fine. <refine></refine>", ParsedCritique("Fine.")),
        ("Red. <refine>Blue.<\\refine>", ParsedCritique("Red.", "Blue.")),
        ("Red. <Refine> Blue.", ParsedCritique("Red.", "Blue.")),
        ("Red. <refine><ins>Blue.</ins></refine>", ParsedCritique("Red.", "Blue.")),
    ],
)
def test_variants_of_a_critique(text, expected):
    assert parse_critique(text) == expected


def test_tags_and_empty_instructions_are_refused():
    with pytest.raises(StrokesError, match="reserved tag"):
        write_plan("a <des>")
    with pytest.raises(StrokesError, match="reserved tag"):
        write_critique("", "a <\\refine>")
    with pytest.raises(StrokesError, match="needs an instruction"):
        write_plan(" ")


ATTACKS = {
    "spaces": "<" + " " * 10**6, "a name and spaces": "<ins" + " " * 10**6, "brackets": "<" * 10**6,
    "brackets and spaces": "< " * (10**6 // 2), "lines": "<\n/" * (10**6 // 3), "slashes": "<" + "/" * 10**6,
    "runs of spaces": ("<" + " " * 1000) * 1000, "half tags": "</ins" * 200_000, "mixed": ("<\t\\ des " + "\t" * 90) * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_a_megabyte_of_anything_is_read_in_linear_time(text):
    """The bound is loose because machines are noisy: a parser that backtracks takes minutes."""
    began = perf_counter()
    plan, critique = parse_plan(text), parse_critique(text)
    readable("plan", text)
    assert perf_counter() - began < 2
    assert plan.problem and not critique.correction

"""Dialects by name, by the checkpoint's marker and folder, and from a person's file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_painter import ScriptedPainter

from strokes.errors import StrokesError
from strokes.process import loop, stages
from strokes.process.dialects.choice import BUILT_IN, NEEDED, READY, find_dialect, guessed, names, read_dialect
from strokes.process.dialects.plain import PLAIN
from strokes.process.dialects.unicot import UniCoTDialect


def write(folder, name, **content):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / f"{name}.json"


def test_auto_is_the_marker_else_the_folders_name_else_plain():
    assert guessed("paper", "UMM-Reflection-BAGEL-RL") == "paper"
    for folder in ("UMM-Reflection-BAGEL-RL", "umm_reflection", "YijiaFan--UMM-Reflection-BAGEL-SFT"):
        assert guessed(None, folder) == "reflection"
    assert guessed(None, "UniCoT-7B-MoT-v0.2") == guessed(None, "Uni-CoT") == "uni-cot"
    assert guessed(None, "diffusion_models/UMM-Reflection-RL-fp8") == "reflection"
    assert guessed(None, "BAGEL-7B-MoT") == guessed(None, "reflections of light") == "plain"


def test_every_built_in_dialect_is_found_or_says_what_it_needs(tmp_path):
    for name in BUILT_IN:
        if name in READY:
            assert find_dialect(name, []) is READY[name]
        else:
            with pytest.raises(StrokesError, match=NEEDED[name].file) as error:
                find_dialect(name, [tmp_path])
            assert "github.com" in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_dialect_is_named_with_those_there_are(tmp_path):
    write(tmp_path / "dialects", "mine", based_on="plain")
    with pytest.raises(StrokesError, match="unknown dialect 'runes'; known are plain, .*uni-cot, mine"):
        find_dialect("runes", [tmp_path / "dialects"])
    assert names([tmp_path / "dialects", tmp_path / "none"]) == [*BUILT_IN, "mine"]


def test_a_file_with_the_name_of_a_built_in_dialect_is_not_passed_over(tmp_path):
    write(tmp_path, "plain", based_on="plain", accept_from=3)
    write(tmp_path, "reflection", based_on="plain")
    for name in ("plain", "reflection"):
        with pytest.raises(StrokesError, match=f"{name} is a built-in dialect: give the file another name"):
            find_dialect(name, [tmp_path])
    write(tmp_path, "auto", based_on="plain")
    assert "auto" not in names([tmp_path])


@pytest.mark.parametrize("name", ["../mine", "", ".", "a\nb", "a\0b", "\ud800", "x" * 5000])
def test_a_name_is_no_path(tmp_path, name):
    write(tmp_path, "mine", based_on="plain")
    places = [tmp_path / "dialects"]
    places[0].mkdir()
    with pytest.raises(StrokesError, match="unknown dialect") as error:
        find_dialect(name, places)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def test_a_persons_dialect_speaks_as_its_file_says(tmp_path):
    write(
        tmp_path, "mine", based_on="plain", first_plan="Was zuerst für {prompt}?", accept_from=-2.5,
        profile={"rounds": 2}, inspect_step="{instruction} {steps} Answer yes or no.",
    )  # fmt: skip
    mine = find_dialect("mine", [tmp_path])
    assert mine.name == "mine" and mine.accept_from == -2.5 and mine.is_finished == PLAIN.is_finished
    painter = ScriptedPainter(["Add a boat.", "Yes", "Yes"], mine)
    loop.run(painter, stages.begin(painter, "ein Boot"), 1)
    assert painter.texts[0][0] == ("Was zuerst für ein Boot?",)
    assert painter.scores[0][0][-1] == "Add a boat. Add a boat. Answer yes or no."


def test_tags_can_be_based_on_too(tmp_path):
    assert read_dialect(write(tmp_path, "strict", based_on="miniature", accept_from=2)).view == "round"
    assert read_dialect(write(tmp_path, "whole", based_on="paper", end_from=1)).view == "whole"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, '"based_on" should be one of plain'),
        ({"based_on": "runes"}, '"based_on" should be'),
        ({"based_on": ["plain"]}, '"based_on" should be'),
        ({"based_on": "plain", "frist_plan": "x"}, "unknown key 'frist_plan'; a dialect like this has first_plan"),
        ({"based_on": "plain", "answers": []}, "unknown key 'answers'"),
        ({"based_on": "plain", "first_plan": ""}, "'first_plan' should be a text of 1 to"),
        ({"based_on": "plain", "first_plan": 3}, "'first_plan' should be a text"),
        ({"based_on": "plain", "first_plan": "x" * 30_000}, "'first_plan' should be a text"),
        ({"based_on": "plain", "first_plan": "{prompt.__class__}"}, "only {prompt}, {steps}, {instruction}"),
        ({"based_on": "plain", "first_plan": "{prompt!r}"}, "only {prompt}"),
        ({"based_on": "plain", "first_plan": "{prompt:>999999999}"}, "only {prompt}"),
        ({"based_on": "plain", "first_plan": "{0} {"}, "only {prompt}"),
        ({"based_on": "plain", "accept_from": "much"}, "'accept_from' should be a number from -50 to 50"),
        ({"based_on": "plain", "accept_from": True}, "'accept_from' should be a number"),
        ({"based_on": "plain", "accept_from": 1e9}, "'accept_from' should be a number"),
        ({"based_on": "plain", "forms": {"plan": "pixels"}}, "'forms' should be an object of plan, sketch"),
        ({"based_on": "plain", "profile": 3}, "'profile' should be an object"),
        ({"based_on": "uni-cot", "system_prompt": "x"}, "'request_detail' is missing"),
        ({"based_on": "uni-cot"}, "'system_prompt' is missing"),
    ],
)
def test_a_dialect_file_that_is_none_is_named_in_one_line(tmp_path, content, message):
    path = write(tmp_path, "mine", **content)
    with pytest.raises(StrokesError) as error:
        read_dialect(path)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9), lambda x: st.lists(x, max_size=3)))
def test_nonsense_in_a_dialect_file_is_an_error_in_one_line(tmp_path_factory, noise):
    folder = tmp_path_factory.mktemp("dialects")
    for key in ("based_on", "first_plan", "accept_from", "forms", "profile"):
        path = write(folder, "mine", **{"based_on": "plain", key: noise})
        try:
            read_dialect(path)
        except StrokesError as error:
            assert "\n" not in str(error)


def test_a_file_that_is_no_json(tmp_path):
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(StrokesError, match="cannot be read"):
        find_dialect("mine", [tmp_path])


def test_uni_cot_thinks_once_and_looks_at_its_last_picture_alone(tmp_path):
    write(tmp_path, "uni-cot", based_on="uni-cot", system_prompt="Stand-in.", request_detail="In more detail.")
    dialect = find_dialect("uni-cot", [], tmp_path)
    assert dialect == UniCoTDialect(system_prompt="Stand-in.", request_detail="In more detail.")
    replies = [
        "<think>Two boats, both red.</think>",
        "<sr>There is one boat.</sr>",
        "<sugg>Add a boat.</sugg>",
        "<sugg>Add a second red boat on the right.</sugg>",
        "<sr>Both are there.</sr>",
        "<sugg>No editing is needed.</sugg>",
    ]
    painter = ScriptedPainter(replies, dialect)
    done = loop.run(painter, stages.begin(painter, "two boats"), 3)
    thought = "<think>Two boats, both red.</think>"
    r0, r1 = (f"picture {picture.digest}" for _, picture in done.pictures)
    base = ("Stand-in.", "two boats", thought)
    detailed = "Add a second red boat on the right."
    assert [paint[:3] for paint in painter.paints] == [
        (base, (), base),
        ((*base, r0, detailed), (*base, r0), (*base, detailed)),
    ]
    looked = [state for state, *_ in painter.texts[1:]]
    seen = (*base, f"pixels of {r0}", "<sr>There is one boat.</sr>")
    assert looked[:3] == [seen[:-1], seen, (*seen, "<sugg>Add a boat.</sugg>", "In more detail.")]
    assert looked[3] == (*base, f"pixels of {r1}")
    assert [start for *_, start in painter.scores] == ["<sugg"] * 2
    first, second = done.rounds
    assert first.critique.correction == detailed and first.critique.margin < 0 < second.critique.margin
    assert second.plan is None and done.ended and not second.refinement.picture
    stepped = stages.sketch(painter, stages.plan(painter, first_round(done), instruction="Add a moon."))
    assert painter.paints[-1][0] == ("Stand-in.", "two boats", r1, "Add a moon.") and stepped.current_round.sketch


def first_round(done):
    """A process after its first round."""
    return replace(done, rounds=done.rounds[:1])

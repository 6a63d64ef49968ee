from collections import Counter

import pytest

from strokes.errors import StrokesError
from strokes.evaluation.shapes.prompts import GROUPS, Prompt, read_prompts, write_prompts
from strokes.shapes.language import read_prompt
from strokes.shapes.scene_graph import CATEGORIES
from strokes.shapes.splits import SPLITS, reserved, split_of


def test_written_prompts_are_distinct_and_spread_over_splits_and_kinds():
    prompts = write_prompts(120, seed=7)
    graphs = [read_prompt(p) for p in prompts]
    assert len(set(prompts)) == 120 and prompts == write_prompts(120, seed=7) != write_prompts(120, seed=8)
    assert Counter(map(split_of, graphs)) == dict.fromkeys(SPLITS, 30)
    kinds = Counter((split_of(g), g.category) for g in graphs)
    assert [kinds["seen", kind] for kind in CATEGORIES] == [5] * 6
    assert [kinds["pairs", kind] for kind in CATEGORIES] == [5] * 6
    assert kinds["relations", "position"] == 30
    assert [kinds["longer", kind] for kind in ("counting", "position", "binding")] == [10] * 3
    assert all(len(g.objects) == 5 for g in graphs if split_of(g) == "longer")


def test_prompts_of_the_seen_split_are_kept_from_training():
    graphs = [read_prompt(p) for p in write_prompts(60, splits=("seen",))]
    assert all(reserved(g) or g.category == "single" for g in graphs)


def test_a_beginning_of_the_list_is_spread_alike():
    assert write_prompts(80, seed=3)[:8] == write_prompts(8, seed=3)
    assert Counter(split_of(read_prompt(p)) for p in write_prompts(8, seed=3)) == dict.fromkeys(SPLITS, 2)


def test_used_up_kinds_leave_their_share_to_the_others():
    kinds = Counter(read_prompt(p).category for p in write_prompts(150, splits=("pairs",)))
    assert kinds.total() == 150 and kinds["single"] == 5 and kinds["position"] > 25


@pytest.mark.parametrize(("count", "splits"), [(0, SPLITS), (5, ("old",)), (5, ())])
def test_prompts_that_cannot_be_written_are_errors(count, splits):
    with pytest.raises(StrokesError):
        write_prompts(count, splits=splits)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("a red circle", ("all", "single", "seen")),
        ("a cyan circle", ("all", "single", "pairs", "held out")),
        ("three red circles", ("all", "counting", "seen", "3 or more")),
        ("four red circles and a cyan circle", ("all", "counting", "other", "3 or more")),
    ],
)
def test_a_prompt_counts_in_every_group_it_belongs_to(text, groups):
    assert Prompt(1, text, read_prompt(text)).groups == groups and set(groups) <= set(GROUPS)


def test_lines_that_cannot_be_read_or_said_are_listed():
    def check(text):
        if "cross" in text:
            raise StrokesError("unsayable")

    prompts, unread = read_prompts(["", " a red circle ", "a pink house", "a red cross", "a blue square."], check)
    assert [(p.line, p.text) for p in prompts] == [(2, "a red circle"), (5, "a blue square.")]
    assert [line for line, _ in unread] == [3, 4] and unread[1][1] == "unsayable"


@pytest.mark.parametrize("lines", [[], ["", "  "], ["a pink house"]])
def test_no_prompt_is_an_error(lines):
    with pytest.raises(StrokesError, match="no prompt to evaluate"):
        read_prompts(lines, lambda text: None)

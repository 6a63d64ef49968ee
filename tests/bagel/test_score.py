"""Probabilities of given answers: against scoring each by hand, batched against single, and what they cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strokes.bagel.engine.prefix import Prefix, Segment
from strokes.bagel.engine.runner import tree_rows
from strokes.bagel.engine.text import OverlappingAnswers, answer_tree, decode, score
from strokes.bagel.painter import BagelPainter
from strokes.bagel.scheduler import run_batched
from strokes.errors import StrokesError

PREFIX = Prefix((Segment("text", (7, 8)), Segment("text", (9,))))


def by_hand(painter, start, answer):
    """The log-probability of one answer, a token at a time."""
    runner = painter.runner
    cache = runner.decode_cache(painter.prefix_cache.blocks(PREFIX), 40)
    position, total, feed = PREFIX.position, 0.0, [runner.special.bos, *start]
    for token in [*answer] or [runner.special.eos]:
        for each in feed:
            logits = runner.decode_tokens(cache, [each], position)
            position += 1
        total += float(logits.double().log_softmax(-1)[token])
        feed = [token]
    return total


ids = st.integers(5, 40)
free = st.sets(st.tuples(ids, ids, ids).map(lambda t: t[: 1 + t[0] % 3]), min_size=1, max_size=6)


def prefix_free(answers):
    return all(a == b or b[: len(a)] != a for a in answers for b in answers)


@settings(max_examples=25)
@given(start=st.lists(ids, max_size=4), answers=free.filter(prefix_free), with_end=st.booleans())
def test_scores_equal_those_of_scoring_each_answer_by_hand(toy_checkpoint, start, answers, with_end):
    painter = BagelPainter(toy_checkpoint)
    answers = [*sorted(answers), *([()] if with_end else [])]
    blocks = painter.prefix_cache.blocks(PREFIX)
    found, rows = score(painter.runner, blocks, PREFIX.position, start, answers)
    assert found == pytest.approx([by_hand(painter, start, answer) for answer in answers], abs=1e-5)
    inner = {answer[:n] for answer in answers for n in range(1, len(answer))}
    assert rows == 1 + len(start) + len(inner), (
        "answers share what they have in common, and no row is run for a last token"
    )


def test_the_probabilities_of_everything_that_may_follow_sum_to_one(toy_painter):
    special, size = toy_painter.runner.special, toy_painter.checkpoint.model.config.language.vocab_size
    answers = [(token,) for token in range(size) if token != special.eos] + [()]
    found, rows = score(toy_painter.runner, [], 0, (), answers)
    assert sum(map(math.exp, found)) == pytest.approx(1, abs=1e-5) and rows == 1


@given(free, st.lists(ids, max_size=3))
def test_the_tree_of_answers(answers, start):
    answers = sorted(answers)
    if not prefix_free(answers):
        with pytest.raises(OverlappingAnswers, match="begins with another"):
            answer_tree(1, 2, start, answers)
        return
    tokens, parents, paths = answer_tree(1, 2, start, answers)
    assert tokens[: 1 + len(start)] == [1, *start] and all(parent < row for row, parent in enumerate(parents))
    for answer, path in zip(answers, paths, strict=True):
        assert [token for _, token in path] == list(answer)
    mask = tree_rows(parents, len(tokens) + 2)
    for row in range(len(tokens)):
        chain, at = set(), row
        while at >= 0:
            chain.add(at)
            at = parents[at]
        assert set(mask[row].nonzero().flatten().tolist()) == chain


def test_scoring_costs_one_prefill_and_leaves_the_memo_as_a_plain_read_would(toy_checkpoint):
    read, scored = BagelPainter(toy_checkpoint), BagelPainter(toy_checkpoint)
    for painter in (read, scored):
        state = painter.read_text(painter.read_text(painter.blank(), "a red circle"), "a blue square")
        if painter is scored:
            first = painter.score(state, ["the step is correct", "the picture is wrong", ""])
        else:
            painter.prefix_cache.blocks(state)
    assert list(scored.prefix_cache._blocks) == list(read.prefix_cache._blocks)
    assert scored.counts.prefilled == read.counts.prefilled == 2 and scored.counts.decoded == 0
    assert scored.score(state, ["the step is correct", "the picture is wrong", ""]) == first
    assert scored.counts.prefilled == 2 and scored.counts.scored == 2 * first.rows == 12


def test_answers_in_one_spelling_share_one_probability_and_overlaps_are_named(toy_painter):
    state = toy_painter.read_text(toy_painter.blank(), "a red circle")
    one, twice = (toy_painter.score(state, answers).log_probabilities for answers in (["red"], ["red", " red"]))
    assert twice == (*one, -math.inf), "this tokenizer writes both with one token"
    with pytest.raises(StrokesError, match="one begins with another"):
        toy_painter.score(state, ["the step", "the step is"])
    with pytest.raises(StrokesError, match="does not know 'Yes'"):
        toy_painter.score(state, ["Yes"])


def test_batched_scores_equal_single_ones(toy_painter):
    """Prefixes, starts and answers of other lengths, side by side."""
    asked = [
        ("a red circle", "", ["the step is correct", "the picture is wrong"]),
        ("a blue square and a red circle", "the step", ["is correct", ""]),
        ("a red circle left of a blue square", "the", ["picture is wrong", "step", ""]),
        ("", "", [""]),
    ]

    def job(text, start, answers, painter):
        return painter.score(painter.read_text(painter.blank(), text), answers, start)

    from functools import partial

    single = [job(*each, toy_painter) for each in asked]
    together = list(run_batched(toy_painter, [partial(job, *each) for each in asked], concurrency=4))
    for one, other in zip(single, together, strict=True):
        assert other.log_probabilities == pytest.approx(one.log_probabilities, abs=1e-5)
        assert other.rows == one.rows


def test_a_forced_start_is_prefilled_in_one_call_with_the_same_result(toy_painter):
    blocks = toy_painter.prefix_cache.blocks(PREFIX)
    calls, run = [], toy_painter.runner.decode_tokens
    toy_painter.runner.decode_tokens = lambda cache, tokens, position: (
        calls.append(len(tokens)) or run(cache, tokens, position)
    )
    decode(toy_painter.runner, blocks, PREFIX.position, 3, forced=[11, 12, 13])
    assert calls[0] == 4 and set(calls[1:]) <= {1}
    one_by_one = toy_painter.runner.decode_cache(blocks, 8)
    at_once = toy_painter.runner.decode_cache(blocks, 8)
    feed = [toy_painter.runner.special.bos, 11, 12, 13]
    for i, token in enumerate(feed):
        last = run(one_by_one, [token], PREFIX.position + i)
    assert torch.allclose(run(at_once, feed, PREFIX.position), last, atol=1e-5)
    assert torch.allclose(at_once.block.keys, one_by_one.block.keys, atol=1e-5) and at_once.length == one_by_one.length


def test_a_stop_string_ends_a_text_and_is_no_part_of_it(toy_painter):
    state = toy_painter.read_text(toy_painter.blank(), "a red circle")
    settings_ = replace(toy_painter.profile.text, max_tokens=12, temperature=5.0)
    whole = toy_painter.write_text(state, settings_, 3, start="the step")
    words = whole.text.removeprefix("the step").split()
    assert len(words) > 3, "a sampled text of several words"
    stop = next(word for word in words[1:] if word not in words[:1])
    cut = toy_painter.write_text(state, settings_, 3, start="the step", stop=(stop, "never"))
    assert cut.ended and cut.stopped and not whole.stopped
    assert cut.text == whole.text[: whole.text.index(stop, len("the step"))].strip() and cut.tokens < whole.tokens

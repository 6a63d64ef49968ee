"""The prefix cache changes speed, never results; and a round prefills every segment once."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strokes.bagel.engine.prefix import Prefix, Segment
from strokes.bagel.engine.prefix_cache import PrefixCache
from strokes.bagel.engine.runner import Runner
from strokes.bagel.painter import BagelPainter
from strokes.process import loop, stages
from strokes.process.dialects.miniature import MINIATURE
from strokes.process.dialects.paper import PAPER
from strokes.process.settings import PaintOverrides

RELAXED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pool() -> list[Segment]:
    generator = torch.Generator().manual_seed(5)
    return [
        Segment("text", (7, 8, 9)),
        Segment("text", ()),
        Segment("text", tuple(range(10, 30))),
        Segment("latents", torch.randn(16, 8, 8, generator=generator)),
        Segment("pixels", torch.rand(3, 64, 64, generator=generator) * 2 - 1),
    ]


POOL = pool()
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("branch"), st.integers(0, 20), st.integers(0, len(POOL) - 1)),
        st.tuples(st.just("again"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("evict"), st.integers(1, 60_000), st.just(0)),
        st.tuples(st.just("unload"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@RELAXED
@given(actions=ACTIONS, capacity=st.sampled_from([0, 30_000, 1 << 30]))
def test_any_history_gives_the_blocks_of_a_fresh_computation(toy_painter, actions, capacity):
    runner = toy_painter.runner
    prefix_cache = PrefixCache(runner, capacity)
    prefixes = [Prefix()]
    for action, number, choice in actions:
        if action == "unload":
            prefix_cache.clear()
            continue
        if action == "evict":
            held = prefix_cache.nbytes
            assert prefix_cache.evict(number) == held - prefix_cache.nbytes
            continue
        prefix = prefixes[number % len(prefixes)]
        if action == "branch":
            prefix = prefix.append(POOL[choice])
            prefixes.append(prefix)
        fresh = PrefixCache(runner).blocks(prefix)
        for ours, theirs in zip(prefix_cache.blocks(prefix), fresh, strict=True):
            assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)
        assert prefix_cache.nbytes <= max(capacity, 0)


def test_another_content_or_order_is_another_prefix():
    a, b = POOL[0], POOL[2]
    keys = {Prefix((a,)).key, Prefix((b,)).key, Prefix((a, b)).key, Prefix((b, a)).key, Prefix((a, a)).key, b""}
    assert len(keys) == 6
    assert Segment("latents", POOL[3].content).digest != Segment("pixels", POOL[3].content).digest


def test_a_shorter_prefix_is_a_view_of_the_same_blocks(toy_painter):
    prefix_cache = PrefixCache(toy_painter.runner)
    main = Prefix((POOL[0], POOL[3], POOL[2]))
    blocks = prefix_cache.blocks(main)
    text_free = prefix_cache.blocks(Prefix(main.segments[:2]))
    assert all(ours is theirs for ours, theirs in zip(text_free, blocks, strict=False))
    assert prefix_cache.counts.prefilled == 3


def test_least_recently_used_goes_first(toy_painter):
    prefix_cache = PrefixCache(toy_painter.runner)
    a, b = Prefix((POOL[0],)), Prefix((POOL[2],))
    prefix_cache.blocks(a), prefix_cache.blocks(b), prefix_cache.blocks(a)
    prefix_cache.evict(1)
    prefix_cache.blocks(a)
    assert prefix_cache.counts.prefilled == 2
    prefix_cache.blocks(b)
    assert prefix_cache.counts.prefilled == 3


def one_round(checkpoint, view):
    painter = BagelPainter(replace(checkpoint, dialect=replace(MINIATURE, view=view)))
    quick = PaintOverrides(steps=2, text_guidance=2.0, interval=(0.0, 1.0))
    t = stages.begin(painter, "a red circle")
    t = stages.plan(painter, t, instruction="add a red circle", description="a red circle")
    t = stages.sketch(painter, t, settings=quick)
    given = stages.GivenCritique("correct", correction="change the red circle to a blue circle")
    t = stages.inspect(painter, t, given=given)
    t = stages.refine(painter, t, settings=quick)
    return painter, t


def test_a_round_prefills_every_segment_once(toy_checkpoint):
    painter, t = one_round(toy_checkpoint, "whole")
    # prompt, plan, sketch (latents, pixels), critique, refinement (latents, pixels)
    assert painter.prefix_cache.counts.prefilled == 7
    assert painter.prefix_cache.counts.scored >= 1
    stages.plan(painter, t, instruction="add a blue square")
    assert painter.prefix_cache.counts.prefilled == 7, "the next plan stands behind what is there already"


def test_written_text_is_prefilled_once_more_and_counted_apart(toy_checkpoint):
    painter = BagelPainter(replace(toy_checkpoint, dialect=PAPER))
    t = stages.plan(painter, stages.begin(painter, "a red circle"))
    assert painter.prefix_cache.counts.prefilled == 1
    decoded = painter.prefix_cache.counts.decoded
    assert decoded > 1
    stages.sketch(painter, t, settings=PaintOverrides(steps=1))
    assert (painter.prefix_cache.counts.prefilled, painter.prefix_cache.counts.decoded) == (2, decoded)


def test_pictures_do_not_depend_on_what_the_memo_held(toy_checkpoint):
    quick = PaintOverrides(steps=2, text_guidance=2.0, interval=(0.0, 1.0))

    def run(painter):
        t = stages.begin(painter, "a red circle and a blue square")
        return loop.run(painter, t, 2, seed=3, settings=loop.StageSettings(sketch=quick, refine=quick))

    warm, cold = (
        BagelPainter(toy_checkpoint),
        BagelPainter(toy_checkpoint, PrefixCache(Runner(toy_checkpoint.model, toy_checkpoint.special), 0)),
    )
    first, again, without = run(warm), run(warm), run(cold)
    assert warm.prefix_cache.counts.reused > cold.prefix_cache.counts.reused
    digests = [[p.digest for _, p in t.pictures] for t in (first, again, without)]
    assert digests[0] == digests[1] == digests[2]
    assert [r.plan.text for r in first.rounds] == [r.plan.text for r in without.rounds]

"""Decoding, guidance and sampling, where the golden tensors do not reach."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strokes.bagel.engine import flow
from strokes.bagel.engine.prefix import Prefix, Segment
from strokes.bagel.engine.text import decode, greedy, sampled, token_choice
from strokes.errors import Cancelled, StrokesError


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_greedy_takes_the_largest():
    logits = torch.tensor([0.0, 3.0, 1.0])
    assert greedy(logits) == token_choice(0.0, 1.0, 0)(logits) == 1


def test_top_p_keeps_the_smallest_set_of_that_mass():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    seen = {sampled(logits, 1.0, 0.6, generator().manual_seed(i)) for i in range(200)}
    assert seen == {0, 1}
    assert {sampled(logits, 1.0, 0.01, generator().manual_seed(i)) for i in range(20)} == {0}


def test_temperature_flattens():
    logits = torch.tensor([2.0, 0.0])
    cold, hot = (sum(sampled(logits, t, 1.0, generator().manual_seed(i)) for i in range(300)) for t in (0.3, 5.0))
    assert cold < 10 < 80 < hot


def test_decoding_repeats_with_its_seed_and_respects_the_limit(toy_painter):
    blocks = toy_painter.prefix_cache.blocks(Prefix((Segment("text", (7, 8)),)))

    def write(seed):
        return decode(toy_painter.runner, blocks, 4, 6, choose=token_choice(5.0, 1.0, seed))[0]

    assert write(1) == write(1)
    assert len({tuple(write(seed)) for seed in range(6)}) > 1
    assert all(len(write(seed)) <= 6 for seed in range(6))


def test_forced_tokens_come_first_and_give_the_same_continuation(toy_painter):
    blocks = toy_painter.prefix_cache.blocks(Prefix((Segment("text", (7, 8)),)))
    free, _ = decode(toy_painter.runner, blocks, 4, 5)
    forced, _ = decode(toy_painter.runner, blocks, 4, 3, forced=free[:2])
    assert forced == free


def test_a_callback_may_cancel_between_tokens(toy_painter):
    def stop(ids):
        if len(ids) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        decode(toy_painter.runner, [], 0, 5, choose=token_choice(9.0, 1.0, 3), on_token=stop)


@given(calls=st.integers(1, 60), shift=st.floats(0.5, 8))
def test_times_fall_from_one_to_zero(calls, shift):
    times = flow.timesteps(calls, shift)
    assert len(times) == calls + 1 and times[0] == 1.0 and times[-1] == 0.0
    assert all(a > b for a, b in zip(times, times[1:], strict=False))


def test_an_unknown_renorm_is_named():
    with pytest.raises(StrokesError, match="'local'.*global"):
        flow.combine(torch.ones(1, 4), None, None, flow.Guidance(renorm="local"))


def test_renorm_never_lengthens_and_its_floor_holds():
    v, v_text = torch.randn(6, 4, generator=generator()), torch.randn(6, 4, generator=generator().manual_seed(1))
    raw = v_text + 5 * (v - v_text)
    for kind in ("global", "channel"):
        shortened = flow.combine(v, v_text, None, flow.Guidance(text=5, renorm=kind))
        assert shortened.norm() <= v.norm() * 1.0001
    assert torch.allclose(flow.combine(v, v_text, None, flow.Guidance(text=5, renorm_min=1.0)), raw)
    assert torch.equal(flow.combine(v, v_text, None, flow.Guidance(text=1.0, image=2.0)), v)


def run(same_text, same_image, guidance, calls=4):
    asked: list[tuple[str, ...]] = []

    def velocities(names, x, t):
        asked.append(tuple(names))
        return [x * {"main": 1.0, "text_free": 0.5, "image_free": 0.2}[n] for n in names]

    flow_settings = flow.FlowSettings(calls, 1.0, guidance)
    flow.sample(velocities, torch.ones(2, 4), flow_settings, same_text=same_text, same_image=same_image)
    return asked


def test_branches_of_one_prefix_are_folded_and_guidance_off_runs_one_branch():
    both = flow.Guidance(text=4, image=2, interval=(0.0, 1.0))
    assert run(False, False, both) == [("main", "text_free", "image_free")] * 4
    assert run(False, True, both) == [("main", "text_free")] * 4
    assert run(True, True, both) == [("main",)] * 4
    assert run(False, False, flow.Guidance(text=1.0, image=2)) == [("main",)] * 4
    late = flow.Guidance(text=4, interval=(0.5, 1.0))
    assert [len(names) for names in run(False, True, late)] == [2, 2, 1, 1]


def test_folding_the_image_branch_equals_running_it(toy_painter):
    """With equal contexts an image scale g is a text scale 1 + g·(s − 1): what the reference's app computes twice."""
    v, v_text = torch.randn(6, 4, generator=generator()), torch.randn(6, 4, generator=generator().manual_seed(1))
    twice = flow.combine(v, v_text, v, flow.Guidance(text=4.0, image=1.5))
    assert torch.allclose(twice, flow.combine(v, v_text, None, flow.Guidance(text=1 + 1.5 * 3)), atol=1e-6)


def test_extrapolation_is_exact_on_a_polynomial_and_runs_19_of_49():
    series, full = flow.Extrapolation(), 0
    for call in range(49):
        value = torch.tensor([2.0 + 0.5 * call])
        if series.full:
            full += 1
            series.record(value)
        else:
            assert torch.allclose(series.predict(), value)
    assert full == 19


@settings(max_examples=15)
@given(order=st.permutations(["main", "text_free", "image_free"]))
def test_branches_do_not_depend_on_their_company(toy_checkpoint, order):
    """Batched or alone, a branch's velocity is the same up to rounding."""
    from strokes.bagel.painter import BagelPainter

    painter = BagelPainter(toy_checkpoint)
    prefixes = {
        "main": Prefix((Segment("text", (7, 8)),)),
        "text_free": Prefix(),
        "image_free": Prefix((Segment("text", ()),)),
    }
    x = torch.randn(16, 64, generator=generator())
    behind = [(painter.prefix_cache.blocks(prefixes[n]), prefixes[n].position) for n in order]
    together = painter.runner.denoise(behind, x, (4, 4), 0.7)
    for one, alone in zip(behind, together, strict=True):
        assert torch.allclose(painter.runner.denoise([one], x, (4, 4), 0.7)[0], alone, atol=1e-4)

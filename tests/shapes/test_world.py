"""Scene graphs, prompts, layouts and rounds of the shapes world."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strokes.bagel.weights.checkpoint import load_tokenizer
from strokes.data.shapes.rounds import RoundMix, growing_order, sample_round
from strokes.errors import StrokesError
from strokes.process.dialects.miniature import MINIATURE
from strokes.process.grammar import parse_plan, write_critique, write_plan
from strokes.shapes.drawing import PALETTE, Shape, apart, inside_canvas, render
from strokes.shapes.language import read_prompt, write_prompt
from strokes.shapes.layout import OFF_PLACE, PLACES, sample_layout
from strokes.shapes.sampling import PromptMix, sample_graph, sample_scene
from strokes.shapes.scene_graph import CATEGORIES, holds
from strokes.shapes.splits import HELD_OUT_PAIRS, SPLITS, held_out, identity, reserved, split_of, trainable
from strokes.shapes.vocabulary import write_tokenizer

SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.booleans())
def test_a_written_prompt_reads_back_as_its_graph(seed, long_forms):
    graph = sample_graph(np.random.default_rng(seed), PromptMix())
    again = read_prompt(write_prompt(graph, long_forms).capitalize() + ".")
    assert sorted(o.name for o in again.objects) == sorted(o.name for o in graph.objects)
    named = {(graph.objects[r.subject], r.name, graph.objects[r.object]) for r in graph.relations}
    assert {(again.objects[r.subject], r.name, again.objects[r.object]) for r in again.relations} == named
    assert again.category == graph.category


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_kind_is_drawn_and_recognised(category):
    rng = np.random.default_rng(1)
    assert all(sample_graph(rng, PromptMix(), category).category == category for _ in range(50))


@pytest.mark.parametrize(
    "prompt",
    ["", "circle", "a red", "a red circle and",
     "a pink circle", "two red circle", "a red circles", "a red circle near a red cross",
     "the red circle", "six red circles", "two red circles left of a blue square", "five red circles and a blue square"],
)  # fmt: skip
def test_other_prompts_are_refused_with_a_reason(prompt):
    with pytest.raises(StrokesError):
        read_prompt(prompt)


@given(SEEDS)
def test_layouts_fit_the_canvas_keep_apart_and_hold_their_relations(seed):
    graph, shapes = sample_scene(np.random.default_rng(seed), PromptMix())
    assert trainable(graph)
    assert [s.name for s in shapes] == [o.name for o in graph.objects]
    assert all(inside_canvas(s) for s in shapes)
    assert all(apart(a, b) for i, a in enumerate(shapes) for b in shapes[:i])
    for r in graph.relations:
        a, b = shapes[r.subject], shapes[r.object]
        assert holds(r.name, (a.x, a.y), (b.x, b.y))


@pytest.mark.slow
@given(SEEDS)
def test_layouts_lie_on_the_loose_grid_where_it_has_room_and_anywhere_else(seed):
    rng = np.random.default_rng(seed)

    def on_grid(shape: Shape) -> bool:
        return all(min(abs(c - place) for place in PLACES) <= OFF_PLACE for c in (shape.x, shape.y))

    graph = read_prompt("a red circle left of a blue square")
    free = sample_layout(graph, rng)
    assert free is not None and all(map(on_grid, free))
    in_the_way = Shape(colour="red", kind="circle", x=38, y=32, r=7.5)  # the last column is too near
    squeezed = sample_layout(graph, rng, [in_the_way], candidates=50_000)
    assert squeezed is not None and not on_grid(squeezed[1])


def test_splits_hold_out_pairs_relations_and_longer_scenes():
    rng = np.random.default_rng(0)
    graphs = [sample_graph(rng, PromptMix(max_objects=5)) for _ in range(4000)]
    counts = {split: [g for g in graphs if split_of(g) == split] for split in SPLITS}
    assert all(len(found) > 200 for found in counts.values())
    seen = counts["seen"]
    assert not any(HELD_OUT_PAIRS & set(g.objects) or len(g.objects) > 4 for g in seen)
    assert all(len(g.objects) == 5 for g in counts["longer"])
    assert all(g.relations and not HELD_OUT_PAIRS & set(g.objects) for g in counts["relations"])
    assert len({o.colour for o in HELD_OUT_PAIRS}) == len({o.kind for o in HELD_OUT_PAIRS}) == len(HELD_OUT_PAIRS) == 5
    several = [g for g in seen if len(g.objects) > 1]
    assert 0.07 < np.mean([reserved(g) for g in several]) < 0.13
    assert not any(reserved(g) for g in seen if len(g.objects) == 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a red circle left of a blue square", "a blue square right of a red circle"),
        ("a red circle left of a blue square", "a red circle to the left of a blue square"),
        ("a red circle and a blue square", "a blue square and a red circle"),
        ("two red circles and a blue square", "a red circle, a blue square and a red circle"),
    ],
)
def test_a_scene_in_other_words_is_the_same_scene(one, other):
    assert identity(read_prompt(one)) == identity(read_prompt(other))
    assert split_of(read_prompt(one)) == split_of(read_prompt(other))


def test_no_round_paints_or_names_a_scene_that_is_kept_for_evaluation():
    rng = np.random.default_rng(0)
    rounds = [sample_round(rng, PromptMix(), RoundMix(conflict=0.4)) for _ in range(600)]
    described = [read_prompt(r.description) for r in rounds if r.description]
    assert len(described) > 300 and not any(map(reserved, described))
    shown = [
        read_prompt(r.caption) for r in rounds if r.caption not in ("", "nothing") and "not clear" not in r.caption
    ]
    assert len(shown) > 200 and not any(map(reserved, shown)) and {split_of(g) for g in shown} <= {"seen", "longer"}
    assert any(r.explanation and not r.caption for r in rounds)


@given(SEEDS)
def test_scenes_grow_along_their_relations(seed):
    rng = np.random.default_rng(seed)
    graph = sample_graph(rng, PromptMix(), "position")
    order = growing_order(graph, rng)
    assert sorted(order) == list(range(len(graph.objects)))
    for k in range(1, len(order)):
        assert any({order[k], i} == {r.subject, r.object} for r in graph.relations for i in order[:k])


AREAS = {"circle": np.pi, "square": 1.76**2, "triangle": 1.85, "diamond": 2 * 1.15 * 0.85, "cross": 2.31}


@pytest.mark.parametrize("kind", AREAS)
def test_rendering_is_exact_inside_outside_and_in_area(kind):
    """Areas in r²; sixteen samples a pixel quantise an edge, so the area is that of many placements."""
    centres = np.random.default_rng(0).uniform(30, 34, (40, 2))
    pictures = render([[Shape(colour="blue", kind=kind, x=float(x), y=float(y), r=9.0)] for x, y in centres])
    ground = (torch.tensor((245, 242, 235)) / 255)[:, None, None]
    blue = (torch.tensor(PALETTE["blue"]) / 255)[:, None, None]
    assert (pictures[:, :, 32, 32] - blue[:, 0, 0]).abs().max() < 1e-6
    assert (pictures[:, :, 2, 2] - ground[:, 0, 0]).abs().max() < 1e-6
    covered = ((pictures - ground) / (blue - ground)).mean(1).sum((1, 2))
    assert covered.mean() == pytest.approx(AREAS[kind] * 81, rel=0.01)


def test_a_larger_canvas_is_the_same_scene():
    scene = [
        Shape(colour="red", kind="triangle", x=20, y=40, r=8.0),
        Shape(colour="cyan", kind="cross", x=45, y=18, r=9.0),
    ]
    small, large = render([scene])[0], render([scene], 256)[0]
    difference = (torch.nn.functional.avg_pool2d(large, 4) - small).abs()
    assert difference.max() < 0.25 and difference.mean() < 0.002


@given(SEEDS)
def test_every_text_of_a_round_is_in_the_vocabulary_and_untouched_shapes_keep_their_place(seed):
    done = sample_round(np.random.default_rng(seed), PromptMix(), RoundMix())
    texts = [MINIATURE.opening(done.prompt)]
    if done.sketch is not None:
        texts += [write_plan(done.instruction, done.description), write_critique(done.explanation, done.correction)]
        texts.append(done.caption)
        described = read_prompt(done.description)
        assert not any(held_out(r, described.objects) for r in described.relations)
        assert (done.refined is None) == (not done.correction)
    for text in texts:
        assert "<unk>" not in TOKENIZER.encode(text).tokens, text
    assert all(len(TOKENIZER.encode(text).ids) <= 62 for text in texts)
    if done.sketch is not None and done.canvas is not None and done.verb == "add":
        assert all(shape in done.sketch for shape in done.canvas)
    drawn = [d for d in (done.canvas, done.sketch, done.seen, done.refined) if d]
    never = {o.name for o in HELD_OUT_PAIRS}
    assert not any(s.name in never for scene in drawn for s in scene)


def test_every_kind_of_round_and_of_step_is_drawn():
    rng = np.random.default_rng(3)
    rounds = [sample_round(rng, PromptMix(), RoundMix(damaged_canvas=0.4)) for _ in range(1500)]
    assert {r.kind for r in rounds} == {"end", "right", "right but incomplete", "wrong picture", "wrong step"}
    assert {r.verb for r in rounds} == {"end", "add", "change", "move", "swap", "remove", "paint"}


def _tokenizer():
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder) / "tokenizer.json")
        return load_tokenizer(Path(folder))


TOKENIZER = _tokenizer()


def test_the_tokenizer_round_trips_what_the_grammar_writes():
    text = write_plan("add a red circle left of the blue square", "a red circle left of a blue square")
    again = TOKENIZER.decode(TOKENIZER.encode(text).ids)
    assert TOKENIZER.encode(again).ids == TOKENIZER.encode(text).ids
    assert parse_plan(again) == parse_plan(text)

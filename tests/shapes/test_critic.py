"""The annotator: it finds every fault that was made, says what mends it, and mends no more than that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strokes.data.shapes.rounds import damage
from strokes.shapes.compare import compare, mend
from strokes.shapes.critic import additions, judge, next_step
from strokes.shapes.drawing import Detection, Shape, detections
from strokes.shapes.language import describe, read_prompt
from strokes.shapes.layout import sample_layout
from strokes.shapes.sampling import PromptMix, sample_scene
from strokes.shapes.scene_graph import SceneGraph, holds

SEEDS = st.integers(0, 100_000)
RED, BLUE, GREEN = (
    Shape(colour="red", kind="circle", x=14, y=14, r=8),
    Shape(colour="blue", kind="square", x=46, y=16, r=8),
    Shape(colour="green", kind="triangle", x=30, y=48, r=8),
)
PAIR = "a red circle left of a blue square"


def right(graph: SceneGraph, scene) -> bool:
    at = [(s.x, s.y) for s in scene]
    named = [s.name for s in scene] == [o.name for o in graph.objects]
    return named and all(holds(r.name, at[r.subject], at[r.object]) for r in graph.relations)


@pytest.mark.parametrize(
    ("prompt", "scene", "what", "correction"),
    [
        (PAIR, [RED, BLUE], None, None),
        (
            PAIR,
            [RED, Shape(colour="green", kind="square", x=46, y=16)],
            "a colour",
            "change the green square to a blue square",
        ),
        (
            PAIR,
            [Shape(colour="red", kind="cross", x=14, y=14), BLUE],
            "a shape is wrong",
            "change the red cross to a red circle",
        ),
        (PAIR, [RED], "missing", "add a blue square right of the red circle"),
        (PAIR, [RED, BLUE, GREEN], "too many", "remove the green triangle"),
        (PAIR, [RED.at(46, 16), BLUE.at(14, 14)], "a place", "swap the red circle and the blue square"),
        (PAIR, [RED, BLUE.at(14, 46)], "a place", "move the blue square right of the red circle"),
        (PAIR, [RED, Detection(BLUE, clear=False)], "not clear", "paint the blue square again"),
        ("two red circles", [RED, RED.at(40, 40), RED.at(14, 46)], "too many", "remove the red circle"),
        ("two red circles", [RED], "missing", "add a red circle"),
    ],
)
def test_a_fault_is_named_with_its_remedy(prompt, scene, what, correction):
    graph = read_prompt(prompt)
    seen = [s if isinstance(s, Detection) else Detection(s) for s in scene]
    verdict = judge(graph, graph, [], seen)
    if what is None:
        assert (verdict.kind, verdict.correction) == ("right", "")
    else:
        assert what in verdict.explanation and verdict.correction == correction
        assert verdict.kind == "wrong picture"


@pytest.mark.parametrize(
    ("scene", "seen"),
    [
        ([RED, BLUE], "a red circle left of a blue square"),
        ([RED.at(46, 16), BLUE.at(14, 14)], "a red circle right of a blue square"),
        ([RED, BLUE.at(40, 46)], "a red circle above a blue square"),
        ([RED, BLUE.at(18, 18)], "a red circle and a blue square"),
        ([BLUE, GREEN], "a green triangle below a blue square"),
        ([RED, Detection(BLUE, clear=False)], "a red circle and a blue square not clear"),
        ([RED, RED.at(46, 16), RED.at(40, 46)], "three red circles"),
        ([RED] * 6, "five red circles"),
        ([], "nothing"),
    ],
)
def test_what_a_picture_shows_is_said_in_a_description(scene, seen):
    graph = read_prompt(PAIR)
    verdict = judge(graph, graph, [], [s if isinstance(s, Detection) else Detection(s) for s in scene])
    assert verdict.found.caption == seen


@given(SEEDS)
def test_every_damage_is_found_and_mended_with_the_rest_untouched(seed):
    rng = np.random.default_rng(seed)
    graph, shapes = sample_scene(rng, PromptMix())
    made = damage(rng, graph, shapes, int(rng.integers(len(shapes))))
    if made is None:
        return
    _, seen = made
    found = compare(graph, seen)
    assert found.faults and found.faults == compare(graph, seen).faults
    mended = mend(found, rng, shapes)
    if mended is None:  # what was moved leaves no room
        return
    assert right(graph, mended)
    stay = [s.shape for s in seen if s.clear and s.shape in shapes and s.shape in found.kept.values()]
    assert all(shape in mended for shape in stay)
    assert len(stay) >= len(shapes) - 2


def test_what_is_not_clear_is_painted_again_where_it_lies_if_it_may():
    graph, rng = read_prompt(PAIR), np.random.default_rng(0)
    blot = replace(BLUE, colour="cyan", kind="cross", x=BLUE.x - 3)
    assert mend(compare(graph, [Detection(RED), Detection(blot, clear=False)]), rng) == [RED, BLUE.at(blot.x, blot.y)]
    below = blot.at(RED.x, RED.y + 32)
    assert right(graph, elsewhere := mend(compare(graph, [Detection(RED), Detection(below, clear=False)]), rng))
    assert elsewhere[0] == RED


def test_a_wrong_place_is_sometimes_nearly_right():
    """As a model's own are: on the right side, but too far off across."""
    rng, graph, near = np.random.default_rng(0), read_prompt(PAIR), []
    for _ in range(300):
        shapes = sample_layout(graph, rng)
        made = damage(rng, graph, shapes, 1)
        if made and compare(graph, made[1]).faults[0].correction.startswith("move"):
            red, blue = made[0]
            near.append(red.x + 8 <= blue.x)
    assert len(near) > 50 and 0.1 < np.mean(near) < 0.7


@given(SEEDS)
def test_steps_lead_from_any_damaged_canvas_to_the_prompt_and_end(seed):
    rng = np.random.default_rng(seed)
    graph, shapes = sample_scene(rng, PromptMix())
    k = int(rng.integers(len(shapes) + 1))
    part, seen = graph.subgraph(range(k)), detections(shapes[:k])
    if k and (made := damage(rng, part, shapes[:k], int(rng.integers(k)))):
        seen = made[1]
    for _ in range(len(shapes) + 3):
        step = next_step(graph, seen, rng)
        if step is None:  # no room: the layout of what is there leaves none
            return
        if not step.instruction:
            break
        assert read_prompt(describe(step.graph)) and right(step.graph, step.scene)
        seen = detections(step.scene)
    assert not step.instruction and right(graph, step.scene)


@pytest.mark.parametrize(
    ("prompt", "planned", "canvas", "sketch", "kind", "correction"),
    [
        (PAIR, "a red circle", [], [RED], "right but incomplete", ""),
        (PAIR, "a green circle", [], [Shape(colour="green", kind="circle", x=14, y=14)], "wrong step",
         "change the green circle to a red circle"),
        (PAIR, "a red circle right of a blue square", [RED.at(46, 16)], [RED.at(46, 16), BLUE.at(14, 16)], "wrong step",
         "swap the red circle and the blue square"),
        (PAIR, "a red circle and a green triangle", [RED], [RED, GREEN], "wrong step", "remove the green triangle"),
        # A plan that forgets what is drawn already, painted as it says.
        (PAIR, "a blue square", [RED], [BLUE], "wrong step", "add a red circle left of the blue square"),
        # What a plan leaves unsaid is no contradiction, but the picture has to hold it.
        (PAIR, "a red circle and a blue square", [RED], [RED, BLUE], "right", ""),
    ],
)  # fmt: skip
def test_plans_are_judged_by_the_prompt(prompt, planned, canvas, sketch, kind, correction):
    verdict = judge(read_prompt(prompt), read_prompt(planned), detections(canvas), detections(sketch))
    assert (verdict.kind, verdict.correction) == (kind, correction)


@given(SEEDS)
def test_every_step_of_the_expert_perfectly_painted_is_right(seed):
    """From whatever canvas, with a shape too many, too: a step that mends is no contradiction of the prompt."""
    rng = np.random.default_rng(seed)
    graph, shapes = sample_scene(rng, PromptMix())
    k = int(rng.integers(1, len(shapes) + 1))
    made = damage(rng, graph.subgraph(range(k)), shapes[:k], int(rng.integers(k)))
    canvas = detections(shapes[:k]) if made is None else made[1]
    step = next_step(graph, canvas, rng)
    if step is not None and step.instruction:
        verdict = judge(graph, read_prompt(describe(step.graph)), canvas, detections(step.scene))
        assert verdict.kind.startswith("right"), (step.instruction, verdict)


def test_whatever_may_come_next_is_known():
    prompt = read_prompt("a red circle left of a blue square and a green triangle")
    steps = additions(prompt, detections([RED]), np.random.default_rng(0))
    assert [step.instruction for step in steps] == ["add a blue square right of the red circle", "add a green triangle"]
    assert all(step.scene[0] == RED and right(step.graph, step.scene) for step in steps)


def test_shapes_a_model_painted_too_near_each_other_stay_where_they_are():
    near = [RED, BLUE.at(RED.x + 16.5, RED.y)]
    prompt = read_prompt("a red circle, a blue square and a green triangle")
    step = next_step(prompt, detections(near), np.random.default_rng(0))
    assert step is not None and step.instruction == "add a green triangle" and step.scene[:2] == near


def test_a_canvas_on_which_all_is_wrong_is_mended_too():
    graph, rng = read_prompt(PAIR), np.random.default_rng(0)
    step = next_step(graph, detections([GREEN]), rng)
    assert step is not None and step.instruction == "change the green triangle to a red circle"
    assert (step.scene[0].x, step.scene[0].y) == (GREEN.x, GREEN.y) and describe(step.graph) == "a red circle"
    # Beside something right it is one too many.
    step = next_step(graph, detections([RED, GREEN]), rng)
    assert step is not None and step.instruction == "remove the green triangle"

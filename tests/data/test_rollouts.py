"""What training makes of a model's own processes: what it painted is kept, what it should have said is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.numpy import load_file
from torch.utils.data import ConcatDataset

from strokes.bagel.network.model import Bagel
from strokes.data import rollouts as selfsampled
from strokes.data.annotator import Proposal
from strokes.data.rollouts import RolloutTask, annotated, build_selfsampled
from strokes.data.samples import StoredPicture
from strokes.data.shapes.annotator import ShapesAnnotator
from strokes.data.shapes.rollouts import ShapesSelfSampling, rollout_task
from strokes.data.shards import ShardSet, build
from strokes.process import stages
from strokes.process.dialects.miniature import MINIATURE
from strokes.process.pictures import Picture
from strokes.process.trajectory import Critique, Painting, Plan, Refinement, Trajectory
from strokes.recipes.embedded import PRESETS
from strokes.recipes.run import RENDERER
from strokes.shapes.drawing import COLOURS, KINDS, Shape, render
from strokes.shapes.language import read_prompt
from strokes.shapes.splits import reserved
from strokes.training.packing import SampleFormat
from strokes.training.presets import StagePreset
from strokes.training.stream import Sources
from strokes.training.train import RunOptions, train

TOY = PRESETS["toy"]

RED, BLUE, GREEN = (
    Shape(colour="red", kind="circle", x=16, y=20, r=9),
    Shape(colour="blue", kind="square", x=46, y=22, r=9),
    Shape(colour="green", kind="cross", x=30, y=48, r=9),
)
PROMPT = "a red circle left of a blue square"
FIRST = ("add a red circle", "a red circle", [RED])
SECOND = ("add a blue square right of the red circle", PROMPT, [RED, BLUE])


def picture(scene):
    pixels = (render([scene])[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Picture(Image.fromarray(pixels), np.zeros((16, 8, 8), np.float32), "codec")


def process(*turns, prompt=PROMPT):
    """A process of (instruction, description, painted[, repainted]) rounds."""
    trajectory = Trajectory(prompt=prompt, size=(64, 64), start=None)
    for instruction, description, painted, *repainted in turns:
        trajectory = trajectory.with_plan(Plan(instruction=instruction, description=description, text=""))
        trajectory = trajectory.with_sketch(Painting(picture(painted)))
        trajectory = trajectory.with_critique(Critique(text="", explanation="", accepted=not repainted))
        trajectory = trajectory.with_refinement(Refinement(picture=picture(repainted[0]) if repainted else None))
    return trajectory


def rounds(*turns, **more):
    return list(annotated(process(*turns, **more), ShapesAnnotator(np.random.default_rng(0))))


def names(scene):
    return [shape.name for shape in scene]


def near(shape, scene):
    return any(s.name == shape.name and abs(s.x - shape.x) < 1 and abs(s.y - shape.y) < 1 for s in scene)


def test_a_process_that_is_right_is_learned_as_it_is():
    first, second, end = rounds(FIRST, SECOND)
    assert (first.kind, second.kind, end.kind) == ("right but incomplete", "right", "end")
    assert first.learn_plan and second.learn_plan and first.canvas is None
    assert isinstance(second.canvas, StoredPicture) and second.canvas.pixels.tobytes() == first.seen.pixels.tobytes()
    assert names(second.sketch) == ["red circle", "blue square"] and near(RED, second.sketch)
    assert end.canvas.pixels.tobytes() == second.seen.pixels.tobytes() and not end.instruction


def test_a_wrong_sketch_gets_its_critique_and_the_least_refinement():
    wrong = [RED, Shape(colour="green", kind="square", x=BLUE.x, y=BLUE.y, r=9)]
    _, second, mending = rounds(FIRST, (*SECOND[:2], wrong))
    assert second.kind == "wrong picture" and second.learn_plan
    assert second.correction == "change the green square to a blue square"
    assert near(RED, second.refined) and near(BLUE, second.refined)
    # The process went on from the wrong picture: the next plan should have mended it.
    assert (mending.kind, mending.instruction) == ("plan", second.correction) and near(BLUE, mending.sketch)


def test_a_plan_against_the_prompt_is_judged_and_another_learned():
    plan, judged_round, *_ = rounds(
        ("add a red cross", "a red cross", [Shape(colour="red", kind="cross", x=20, y=20, r=9)])
    )
    assert (plan.kind, plan.instruction, plan.learn_plan) == ("plan", "add a red circle", True)
    assert (judged_round.kind, judged_round.learn_plan, judged_round.sketch) == ("wrong step", False, None)
    assert judged_round.correction == "change the red cross to a red circle"


def test_ending_too_early_and_going_on_too_long_are_both_answered():
    *_, last = rounds(FIRST)
    assert (last.kind, last.instruction) == ("plan", SECOND[0])
    *_, end, more, _ = rounds(FIRST, SECOND, ("add a green cross", f"{PROMPT} and a green cross", [RED, BLUE, GREEN]))
    assert end.kind == "end" and more.kind == "wrong step" and not more.learn_plan
    assert more.correction == "remove the green cross"


def test_a_plan_that_leaves_an_error_behind_is_not_learned():
    wrong = [Shape(colour="black", kind="circle", x=RED.x, y=RED.y, r=9)]
    _, mending, ignoring, *_ = rounds((*FIRST[:2], wrong), (*SECOND[:2], [*wrong, BLUE]))
    assert (mending.kind, mending.instruction) == ("plan", "change the black circle to a red circle")
    assert not ignoring.learn_plan


def test_an_unreadable_plan_leaves_only_the_right_one():
    plan, *_ = rounds(("add something", "something", [RED]))
    assert (plan.kind, plan.instruction) == ("plan", "add a red circle")


@pytest.mark.parametrize(
    ("instruction", "description"),
    [
        ("add a red circle", "a red circle"),  # no step forward
        ("add a green cross", PROMPT),  # says one thing, describes another
        ("add a blue square", PROMPT),  # leaves out where
    ],
)
def test_a_plan_that_does_not_say_what_it_describes_is_not_learned(instruction, description):
    _, plan, second, *_ = rounds(FIRST, (instruction, description, [RED, BLUE]))
    assert (plan.kind, plan.instruction) == ("plan", SECOND[0])
    assert (second.instruction, second.learn_plan, second.sketch) == (instruction, False, None)


def test_a_step_that_takes_away_what_was_never_asked_for_is_right():
    _, _, removal, *_ = rounds(
        FIRST, (*SECOND[:2], [RED, BLUE, GREEN]), ("remove the green cross", PROMPT, [RED, BLUE])
    )
    assert (removal.kind, removal.learn_plan) == ("right", True)


def test_a_process_that_ends_before_it_begins_is_told_to_begin():
    (begin,) = rounds()
    assert (begin.kind, begin.canvas, begin.instruction) == ("plan", None, "add a red circle")


def test_what_is_held_out_is_not_written_either():
    """A model may paint a held-out pair; that it has to go is not learned in so many words."""
    cyan = Shape(colour="cyan", kind="circle", x=50, y=50, r=9)
    first, judged_round, *rest = rounds(FIRST, (*SECOND[:2], [RED, BLUE, cyan]))
    learned = [r for r in (first, judged_round, *rest) if r.learn_plan]
    assert not any("cyan circle" in r.instruction + r.correction for r in learned)
    assert not rest and judged_round.kind != "wrong picture"


def test_judged_rounds_are_written_once_and_trained_on(toy_checkpoint, tmp_path):
    wrong = [RED, Shape(colour="green", kind="square", x=BLUE.x, y=BLUE.y, r=9)]
    turns = (FIRST, (*SECOND[:2], wrong, [RED, BLUE]))
    made = rounds(*turns)
    assert [r.kind for r in made] == ["right but incomplete", "wrong picture", "end"]
    build(tmp_path, {}, 1, lambda i: made)
    own = ShardSet(tmp_path)
    stored = load_file(tmp_path / "shard-00000.safetensors")
    assert len(stored["pixels"]) == 3  # two sketches and a repainting
    losses: list[dict[str, float]] = []
    preset = StagePreset(steps=1, batch=12, one_shot=(0.0, 0.0), own=1.0, warmup=1)
    config = TOY.size.config(toy_checkpoint.tokenizer.get_vocab_size(), 16)
    model = Bagel(config)
    model.initialise(torch.Generator().manual_seed(0))
    c, sources = toy_checkpoint, Sources(own, None, ConcatDataset([own]))
    sample_format = SampleFormat(
        tokenizer=c.tokenizer, special=c.special, dialect=MINIATURE, renderer=RENDERER, canvas=TOY.size.canvas
    )
    options = RunOptions(seed=0, report=lambda step, row: losses.append(row))
    train(model, preset, sources, sample_format, c.autoencoder, Accelerator(cpu=True), options)
    assert {"plan", "critique", "end", "sketch", "refine"} <= losses[0].keys() and "one-shot" not in losses[0]


def test_another_expert_may_judge(toy_painter, toy_folder, tmp_path):
    class Silent:
        def __init__(self, rng):
            pass

        def read(self, picture):
            return None

        def propose(self, prompt, canvas):
            return Proposal("", "", [])

        def annotate(self, prompt, plan, canvas, sketch):
            return None

    preset = ShapesSelfSampling(processes=1, shard=1, width=1)
    task = RolloutTask(rollout_task(preset).draw_prompt, Silent)
    own = build_selfsampled(tmp_path, toy_painter, toy_folder / "ema.safetensors", preset, 0, task)
    assert len(own) and {own[i].kind for i in range(len(own))} == {"end"}


def test_about_half_of_the_processes_sketch_unguided(toy_painter, toy_folder, tmp_path, monkeypatch):
    given = []

    def nothing_painted(painter, prompt, rounds, seed, settings):
        given.append(settings)
        return stages.begin(painter, prompt)

    monkeypatch.setattr(selfsampled, "roll_out", nothing_painted)
    preset = ShapesSelfSampling(processes=60, shard=60, unguided=0.5)
    build_selfsampled(tmp_path, toy_painter, toy_folder / "ema.safetensors", preset, 0, rollout_task(preset))
    scales = [settings.sketch.text_guidance for settings in given]
    assert 15 < scales.count(1.0) < 45 and set(scales) == {1.0, None}
    assert {settings.plan.temperature for settings in given} == {preset.temperature}


def test_another_order_than_the_experts_is_learned_too():
    first, *_ = rounds(("add a blue square", "a blue square", [BLUE]))
    assert first.learn_plan and names(first.sketch) == ["blue square"]


def test_scenes_kept_for_evaluation_are_not_painted_on_the_way():
    pairs = (f"a red circle and a {colour} {kind}" for colour in COLOURS for kind in KINDS)
    kept = next(pair for pair in pairs if reserved(read_prompt(pair)))
    other = read_prompt(kept).objects[1]
    turns = (
        FIRST,
        (f"add a {other.name}", kept, [RED, Shape(colour=other.colour, kind=other.kind, x=BLUE.x, y=BLUE.y, r=9)]),
    )
    made = rounds(*turns, prompt=f"{kept.replace(' and', ',')} and a {GREEN.name}")
    assert [r.sketch for r in made if r.description == kept] == [None]

"""Begin, Plan, Sketch, Inspect and Refine: each takes a trajectory and gives a new one, with its result in ComfyUI's types."""

from __future__ import annotations

from typing import Any, Literal

from comfy_api.latest import io
from torch import Tensor

from ..model_loader.loader import UnifiedModel
from ..strokes.process import stages
from ..strokes.process.trajectory import Trajectory
from ..strokes.process.wording import closing, cost_of, outcome
from ..strokes.process.wording import verdict as verdict_of
from .checks import checked, type_problem
from .live import Live, payload, reporting
from .sockets import (
    ALIASES,
    STAGES,
    TrajectorySocket,
    changed_output,
    image_outputs,
    keep_best_input,
    model_input,
    paint_inputs,
    paint_settings,
    seed_input,
    size_inputs,
    size_of,
    size_problem,
    text_inputs,
    text_settings,
    trajectory_input,
    trajectory_output,
)
from .values import changed, image_from, mask_from, outputs_of, picture_of, shown


class StrokesBegin(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesBegin",
            display_name="Begin (Strokes)",
            category=STAGES,
            description="Starts a painting: what to paint, how large, and the picture to start from, if there is one.",
            search_aliases=[*ALIASES, "prompt", "start", "canvas"],
            inputs=[
                model_input(),
                io.String.Input("prompt", multiline=True, default="", tooltip="What the finished picture shows."),
                *size_inputs("what suits the checkpoint, or the picture to start from"),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="A picture to go on from, instead of an empty canvas. It is stretched to it.",
                ),
            ],
            outputs=[TrajectorySocket.Output("trajectory", tooltip="The empty work: connect it to Plan or to a loop.")],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None, width: int | None, height: int | None) -> bool | str:
        if problem := type_problem(cls, prompt=prompt, width=width, height=height):
            return problem
        if prompt is not None and not prompt.strip():
            return "the prompt is empty: say what to paint"
        return size_problem(width, height) or True

    @classmethod
    @checked
    def execute(
        cls, model: UnifiedModel, prompt: str, width: int, height: int, image: Tensor | None = None
    ) -> io.NodeOutput:
        with reporting("Begin"):
            size, picture = size_of(width, height), None
            if image is not None:
                size = size or model.painter.profile.size_for(image_from(image))
                picture = picture_of(model, image, size)
            return io.NodeOutput(stages.begin(model.painter, prompt, size, picture))


class StrokesPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesPlan",
            display_name="Plan (Strokes)",
            category=STAGES,
            description="Says what to add or change next, and how the whole scene looks then. Write an instruction to "
            "overrule the model.",
            search_aliases=[*ALIASES, "plan", "instruction", "next step"],
            inputs=[
                model_input(),
                trajectory_input(),
                seed_input(),
                *text_inputs(),
                io.String.Input(
                    "instruction", multiline=True, default="",
                    tooltip="Your own step. Empty: the model writes it. In a loop it holds in every round.",
                ),
                io.String.Input(
                    "description", multiline=True, default="",
                    tooltip="Your own description of the scene after the step. Empty: the model writes it.",
                ),
            ],
            outputs=[
                trajectory_output(),
                io.String.Output("instruction", tooltip="What to change in this round."),
                io.String.Output("description", tooltip="The whole scene after this round."),
                io.Boolean.Output("finished", tooltip="True where the model planned nothing more."),
            ],
        )  # fmt: skip

    @classmethod
    @checked
    def execute(
        cls,
        model: UnifiedModel,
        trajectory: Trajectory,
        seed: int,
        temperature: float,
        max_tokens: int,
        instruction: str,
        description: str,
    ) -> io.NodeOutput:
        live, painter = Live(model.painter.dialect, "plan"), model.painter
        with reporting("Plan", trajectory):
            settings = text_settings(temperature, max_tokens)
            done = stages.plan(
                painter, trajectory, seed=seed, settings=settings, on_text=live.on_text,
                instruction=instruction.strip() or None, description=description.strip() or None,
            )  # fmt: skip
        plan = done.current_round.plan if done.current_round else None
        said = (plan.instruction, plan.description) if plan else ("", "")
        if plan:
            text = _lines(plan.problem, cost_of(plan.origin), " → ".join(line for line in said if line))
        else:
            what = "the last picture is looked at again" if done.looks_again else "the prompt is painted"
            text = outcome(done) if done.ended else f"No plan in this round: {what}."
        live.show_text(text)
        return io.NodeOutput(done, *said, done.ended, ui=payload(cls, done, text))


class StrokesSketch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesSketch",
            display_name="Sketch (Strokes)",
            category=STAGES,
            description="Paints the plan. Connect an image to take that instead. A round without a plan, which some models "
            "have, passes through.",
            search_aliases=[*ALIASES, "sketch", "paint", "generate"],
            inputs=[
                model_input(),
                trajectory_input(),
                seed_input(),
                *paint_inputs(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Your own picture of this step, stretched to the canvas; the model paints nothing.",
                ),
            ],
            outputs=[
                trajectory_output(),
                *image_outputs("The sketch of this round."),
                changed_output("the picture before this round"),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, model: UnifiedModel, trajectory: Trajectory, seed: int, image: Tensor | None = None, **settings: Any
    ) -> io.NodeOutput:
        live = Live()
        with reporting("Sketch", trajectory):
            picture = None if image is None or trajectory.ended else picture_of(model, image, trajectory.size)
            done = stages.sketch(
                model.painter, trajectory, seed=seed, image=picture, on_step=live.on_step,
                settings=paint_settings(**settings),
            )  # fmt: skip
        return _painted(cls, live, trajectory, done)


class StrokesInspect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesInspect",
            display_name="Inspect (Strokes)",
            category=STAGES,
            description="Looks at the last picture and says what is wrong with it, if anything. What is simply not painted yet "
            "is not an error.",
            search_aliases=[*ALIASES, "inspect", "critique", "critic", "judge"],
            inputs=[
                model_input(),
                trajectory_input(),
                seed_input(),
                *text_inputs(),
                io.Combo.Input(
                    "verdict", options=["model", "accept", "correct"], default="model",
                    tooltip="model: it decides. accept: nothing is repainted. correct: your correction is painted.",
                ),
                io.String.Input(
                    "critique", multiline=True, default="", tooltip="Your own words on the sketch, with accept or correct."
                ),
                io.String.Input(
                    "correction", multiline=True, default="", tooltip="What to repaint, with correct: it must be given."
                ),
            ],
            outputs=[
                trajectory_output(),
                io.String.Output("critique", tooltip="What was seen."),
                io.String.Output("correction", tooltip="What to repaint; empty where the sketch was accepted."),
                io.Boolean.Output("accepted", tooltip="True where nothing has to be repainted."),
                io.Float.Output(
                    "margin",
                    tooltip="How sure the model is of its verdict: above 0 it accepts, below it corrects. 0 where that was not "
                    "measured.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, verdict: Literal["model", "accept", "correct"] | None, critique: str | None, correction: str | None
    ) -> bool | str:
        if problem := type_problem(cls, verdict=verdict, critique=critique, correction=correction):
            return problem
        if verdict not in (None, "model", "accept", "correct"):
            return f"unknown verdict {verdict}: choose model, accept or correct"
        if verdict is None or critique is None or correction is None:
            return True  # over a wire: known only when it runs
        return stages.GivenCritique(verdict, critique, correction).problem or True

    @classmethod
    @checked
    def execute(
        cls,
        model: UnifiedModel,
        trajectory: Trajectory,
        seed: int,
        temperature: float,
        max_tokens: int,
        verdict: Literal["model", "accept", "correct"],
        critique: str,
        correction: str,
    ) -> io.NodeOutput:
        live, painter = Live(model.painter.dialect, "inspect"), model.painter
        with reporting("Inspect", trajectory):
            done = stages.inspect(
                painter, trajectory, seed=seed, given=stages.GivenCritique(verdict, critique, correction),
                settings=text_settings(temperature, max_tokens), on_text=live.on_text,
            )  # fmt: skip
        round_ = done.current_round
        written = round_.critique if round_ else None
        if written is None:
            return io.NodeOutput(done, "", "", True, 0.0, ui=payload(cls, done))
        said = " → ".join(line for line in (written.explanation, written.correction) if line)
        words = verdict_of(written)
        text = _lines(words[0].upper() + words[1:], written.problem, cost_of(written.origin), said)
        live.show_text(text)
        found = (written.explanation, written.correction, not written.corrects, written.margin or 0.0)
        return io.NodeOutput(done, *found, ui=payload(cls, done, text))


class StrokesRefine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesRefine",
            display_name="Refine (Strokes)",
            category=STAGES,
            description="Repaints what the inspection corrected, nothing where it accepted, and closes the round: the model "
            "says whether the picture is finished.",
            search_aliases=[*ALIASES, "refine", "correct", "repaint"],
            inputs=[
                model_input(),
                trajectory_input(),
                seed_input(),
                *paint_inputs(),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="1 = may be repainted, in cells of 16 pixels; every cell that it does not touch stays as it is. An "
                    "empty mask is an error.",
                ),
                keep_best_input(),
            ],
            outputs=[
                trajectory_output(),
                *image_outputs("The picture at the end of the round."),
                changed_output("the sketch"),
                io.Boolean.Output("finished", tooltip="True where the model says that nothing is missing."),
            ],
        )  # fmt: skip

    @classmethod
    @checked
    def execute(
        cls,
        model: UnifiedModel,
        trajectory: Trajectory,
        seed: int,
        mask: Tensor | None = None,
        keep_best: bool = False,
        **settings: Any,
    ) -> io.NodeOutput:
        live = Live()
        with reporting("Refine", trajectory):
            done = stages.refine(
                model.painter, trajectory, seed=seed, mask=None if mask is None else mask_from(mask),
                settings=paint_settings(**settings), on_step=live.on_step,
                given=stages.GivenRefinement(keep_best=bool(keep_best)),
            )  # fmt: skip
        return _painted(cls, live, trajectory, done, done.ended)


def _painted(node: type[io.ComfyNode], live: Live, before: Trajectory, done: Trajectory, *more: bool) -> io.NodeOutput:
    """The outputs of Sketch and Refine: the trajectory, its last picture, what changed since ``before``, and ``more``."""
    picture = shown(done)
    text = "" if done is before else _said(done)
    # Before the picture: the canvas puts it above the picture then, unless a preview came first.
    live.show_text(text)
    live.show_picture(picture.image)
    return io.NodeOutput(
        done,
        *outputs_of(picture),
        changed(shown(before) if done is before else before.picture, picture),
        *more,
        ui=payload(node, done, text, picture.image),
    )


def _said(done: Trajectory) -> str:
    """What was decided in a turn that paints, and what it cost."""
    last = done.rounds[-1]
    if not last.refinement:
        return cost_of(last.sketch.origin) if last.sketch else ""
    words = closing(last.refinement)
    return _lines(words[0].upper() + words[1:], last.refinement.problem, cost_of(last.refinement.origin))


def _lines(*lines: str) -> str:
    """Lines for a node, empty ones left out. What may be long stands last: the canvas shows three lines and scrolls."""
    return "\n".join(line for line in lines if line)

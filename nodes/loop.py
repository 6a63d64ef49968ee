"""Loops that stop early, by node expansion.

The nodes between Loop Start and Loop End are the first round. At its end, Loop End expands a copy of them and of itself for
the next round, and so on: one round at a time, because ComfyUI runs every output node of an expanded graph. Inputs of the
copies are links: ComfyUI's cache keys are made of constants and ancestors, and values in their place would never match.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from comfy.cli_args import args
from comfy_api.latest import io
from comfy_execution.graph import DynamicPrompt
from comfy_execution.graph_utils import ExecutionBlocker, is_link

import nodes as core

from ..model_loader.loader import UnifiedModel
from ..strokes.errors import StrokesError
from ..strokes.process.loop import MAX_ROUNDS
from ..strokes.process.trajectory import Trajectory
from ..strokes.process.wording import summary
from .checks import checked
from .live import Live, reporting
from .loop_cache import keep_rounds
from .sockets import (
    ALIASES,
    LOOPS,
    LoopSocket,
    TrajectorySocket,
    image_outputs,
    keep_best_input,
    model_input,
    paint_inputs,
    seed_input,
    text_inputs,
    trajectory_input,
    trajectory_output,
)
from .values import image_to, outputs_of, shown

# Node ids of the copies in round 3: "<end>.r3" is Loop End's, "<end>.r3_<node>" that of a node between.
_COPY = re.compile(r"(.*)\.r(\d+)")


def _rounds_input() -> io.Input:
    return io.Int.Input(
        "rounds", default=4, min=1, max=MAX_ROUNDS,
        tooltip="Rounds at most; the loop ends before when the model says that the picture is finished.",
    )  # fmt: skip


def _outputs() -> list[io.Output]:
    return [
        trajectory_output(),
        *image_outputs("The last picture."),
        io.Image.Output("images", tooltip="Every picture that was painted, as a batch in order."),
    ]


def _results(trajectory: Trajectory) -> io.NodeOutput:
    """The outputs of a loop that is over."""
    last = shown(trajectory)
    painted = [p.image for name, p in trajectory.pictures if name != "start"] or [last.image]
    # A batch has one size: that of the last picture, where the canvas was resized on the way.
    images = [image if image.size == last.image.size else image.resize(last.image.size) for image in painted]
    return io.NodeOutput(trajectory, *outputs_of(last), torch.cat([image_to(image) for image in images]))


class StrokesLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesLoop",
            display_name="Loop (Strokes)",
            category=LOOPS,
            description="Plan, Sketch, Inspect and Refine, round after round, until the picture is finished. To put nodes of "
            "your own between the stages, take Loop Start and Loop End.",
            search_aliases=[*ALIASES, "loop", "repeat", "rounds", "iterate"],
            inputs=[
                model_input(),
                trajectory_input("The work to go on with, from Begin, Refine or another loop."),
                _rounds_input(),
                seed_input(),
                *text_inputs(),
                *paint_inputs(),
                keep_best_input(),
            ],
            outputs=_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            enable_expand=True,
        )

    @classmethod
    @checked
    def execute(cls, model: UnifiedModel, trajectory: Trajectory, **given: Any) -> io.NodeOutput:
        me, prompt = cls.hidden.unique_id, cls.hidden.dynprompt
        wires = {"model": model, "trajectory": trajectory} if args.cache_none else prompt.get_node(me)["inputs"]
        text = {name: given[name] for name in ("seed", "temperature", "max_tokens")}
        paint = {name: given[name] for name in ("seed", *(setting.id for setting in paint_inputs()))}

        def stage(kind: str, before: list[Any], settings: dict[str, Any]) -> dict[str, Any]:
            return {"class_type": kind, "inputs": {"model": wires["model"], "trajectory": before, **settings}}

        start, plan, sketch, inspect, refine, end = (
            f"{me}.{name}" for name in ("start", "plan", "sketch", "inspect", "refine", "end")
        )
        ends = {"loop": [start, 1], "trajectory": [refine, 0], "rounds": given["rounds"]}
        decides = {"verdict": "model", "critique": "", "correction": ""}
        graph = {
            start: {"class_type": "StrokesLoopStart", "inputs": {"trajectory": wires["trajectory"]}},
            plan: stage("StrokesPlan", [start, 0], {**text, "instruction": "", "description": ""}),
            sketch: stage("StrokesSketch", [plan, 0], paint),
            inspect: stage("StrokesInspect", [sketch, 0], {**text, **decides}),
            refine: stage("StrokesRefine", [inspect, 0], {**paint, "keep_best": bool(given.get("keep_best"))}),
            end: {"class_type": "StrokesLoopEnd", "inputs": ends},
        }
        return io.NodeOutput(*([end, i] for i in range(len(cls.SCHEMA.outputs))), expand=graph)


class StrokesLoopStart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesLoopStart",
            display_name="Loop Start (Strokes)",
            category=LOOPS,
            description="Where a round begins. Whatever stands between here and Loop End runs once a round.",
            search_aliases=[*ALIASES, "loop", "repeat", "for", "while"],
            inputs=[trajectory_input("The work to go on with, from Begin, Refine or another loop.")],
            outputs=[
                TrajectorySocket.Output("trajectory", tooltip="The work at the beginning of the round."),
                LoopSocket.Output("loop", tooltip="Connect it to Loop End."),
            ],
        )

    @classmethod
    @checked
    def execute(cls, trajectory: Trajectory) -> io.NodeOutput:
        # A blocker stops every node of the body, also those that Loop End does not depend on.
        return io.NodeOutput(ExecutionBlocker(None) if trajectory.ended else trajectory, trajectory)


class StrokesLoopEnd(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="StrokesLoopEnd",
            display_name="Loop End (Strokes)",
            category=LOOPS,
            description="Where a round ends: goes back to Loop Start until the picture is finished or the rounds are used up.",
            search_aliases=[*ALIASES, "loop", "repeat", "for", "while"],
            inputs=[
                LoopSocket.Input("loop", tooltip="From Loop Start."),
                TrajectorySocket.Input(
                    "trajectory", lazy=True, tooltip="The work at the end of the round, usually from Refine."
                ),
                _rounds_input(),
                io.Boolean.Input(
                    "stop", optional=True, force_input=True, lazy=True, tooltip="True ends the loop after this round."
                ),
            ],
            outputs=_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            enable_expand=True,
        )

    @classmethod
    @checked
    def check_lazy_status(cls, loop: Trajectory, **given: Any) -> list[str]:
        return [] if loop.ended else [name for name in ("trajectory", "stop") if name in given and given[name] is None]

    @classmethod
    @checked
    def execute(
        cls, loop: Trajectory, rounds: int, trajectory: Trajectory | None = None, stop: bool | None = None
    ) -> io.NodeOutput:
        me, prompt, done = cls.hidden.unique_id, cls.hidden.dynprompt, trajectory or loop
        if trajectory is None and not loop.ended:
            raise StrokesError("Loop End: trajectory: a trajectory was expected, nothing was given")
        if done.ended or stop or rounds <= 1:
            if prompt.get_display_node_id(me) != _first(me):
                # The end of a Loop: it has shown every stage's text and keeps this one.
                Live().show_text(summary(done))
            return _results(done)
        if not _COPY.fullmatch(me):
            keep_rounds(me, loop)
        with reporting("Loop End", done):
            return _next_round(prompt, me, done, rounds - 1)


def _first(end: str) -> str:
    """The id of the Loop End of round 1, of any round's."""
    copy = _COPY.fullmatch(end)
    return copy[1] if copy else end


def _next_round(prompt: DynamicPrompt, me: str, trajectory: Trajectory, rounds: int) -> io.NodeOutput:
    """The expansion of Loop End ``me``: the body once more, beginning with ``trajectory``; the first of ``rounds`` rounds.

    Raises StrokesError where the loop wire does not come from a Loop Start.
    """
    copy = _COPY.fullmatch(me)
    root, number = (copy[1], int(copy[2]) + 1) if copy else (me, 2)
    end = prompt.get_node(root)["inputs"]
    start = end["loop"][0]
    if prompt.get_node(start)["class_type"] != "StrokesLoopStart":
        raise StrokesError("its loop input must come from a Loop Start directly")
    body = _body(prompt, start, root)
    # Without a cache, a link would run all its ancestors again.
    before = trajectory if args.cache_none else prompt.get_node(me)["inputs"]["trajectory"]

    def copied(node: str) -> str:
        return f"{root}.r{number}_{node}"

    def moved(value: Any) -> Any:
        if not is_link(value) or value[0] not in (start, *body):
            return value
        return before if value[0] == start else [copied(value[0]), value[1]]

    def copy_of(node: str, inputs: dict[str, Any]) -> dict[str, Any]:
        kind, display = prompt.get_node(node)["class_type"], prompt.get_display_node_id(node)
        return {"class_type": kind, "inputs": inputs, "override_display_id": display}

    graph = {
        copied(node): copy_of(node, {name: moved(v) for name, v in prompt.get_node(node)["inputs"].items()})
        for node in body
    }
    rest = {"loop": before, "rounds": rounds} | {
        name: moved(end[name]) for name in ("trajectory", "stop") if name in end
    }
    me = f"{root}.r{number}"
    graph[me] = copy_of(root, rest)
    return io.NodeOutput(*([me, i] for i in range(len(_outputs()))), expand=graph)


def _body(prompt: DynamicPrompt, start: str, end: str) -> list[str]:
    """Ids of a round's nodes, sorted: those between Loop Start and Loop End, and between Loop Start and an output node."""
    level = prompt.get_parent_node_id(end)
    near = [node for node in prompt.all_node_ids() if prompt.get_parent_node_id(node) == level]
    above: dict[str, set[str]] = {
        node: {value[0] for value in prompt.get_node(node)["inputs"].values() if is_link(value)} for node in near
    }
    below: dict[str, set[str]] = {node: {other for other in near if node in above[other]} for node in near}

    def reach(node: str, edges: dict[str, set[str]]) -> set[str]:
        found, todo = {node}, [node]
        while todo:
            new = edges.get(todo.pop(), set()) - found
            found |= new
            todo += new
        return found

    after, beyond = reach(start, below), reach(end, below)
    shown_there = [node for node in after - beyond if _is_output(prompt.get_node(node)["class_type"])]
    wanted = set().union(*(reach(node, above) for node in (end, *shown_there)))
    return sorted((after & wanted) - beyond - {start})


def _is_output(kind: str) -> bool:
    return getattr(core.NODE_CLASS_MAPPINGS[kind], "OUTPUT_NODE", False)

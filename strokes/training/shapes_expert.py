"""The expert of the shapes world as self-sampling asks for it: it reads pictures by rules and draws scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import StrokesError
from ..process.painter import Picture
from ..process.trajectory import Plan
from .checker import seen_in
from .expert import Seen, compare, contradiction, describe, judge, mend, next_step
from .roles import Judgement, Proposal
from .scene_graph import read_prompt


class ShapesExpert:
    """Fulfils :class:`.roles.Expert`. ``rng`` places what has to be placed anew."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def see(self, picture: Picture | None) -> list[Seen]:
        return [] if picture is None else seen_in(picture.image)

    def propose(self, prompt: str, canvas: Sequence[Seen]) -> Proposal | None:
        step = next_step(read_prompt(prompt), canvas, self.rng)
        return None if step is None else Proposal(step.instruction, describe(step.graph), step.scene)

    def judge(self, prompt: str, plan: Plan, canvas: Sequence[Seen], sketch: Sequence[Seen]) -> Judgement | None:
        """A plan is learned where it does what the expert would do, who mends first and then adds, in any order."""
        graph = read_prompt(prompt)
        try:
            planned = read_prompt(plan.description)
        except StrokesError:
            return None
        verdict = judge(graph, planned, canvas, sketch)
        refined = mend(compare(verdict.graph, sketch), self.rng) if verdict.correction else None
        if verdict.correction and refined is None:
            return None
        step, wanted = next_step(graph, canvas, self.rng), None
        if step is not None and not contradiction(graph, planned, canvas)[0]:
            if plan.instruction == step.instruction:
                wanted = step.scene
            elif step.instruction.startswith("add ") and plan.instruction.startswith("add "):
                wanted = mend(compare(verdict.graph, canvas), self.rng)
        return Judgement(wanted, refined, verdict.explanation, verdict.correction, verdict.kind)

"""The annotator of the shapes world as self-sampling asks for it: it reads pictures by rules and draws scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import StrokesError
from ...process.pictures import Picture
from ...process.trajectory import Plan
from ...shapes.checker import detect
from ...shapes.compare import mend
from ...shapes.critic import additions, judge, next_step
from ...shapes.drawing import Detection
from ...shapes.language import describe, read_prompt
from ...shapes.scene_graph import SceneGraph
from ...shapes.splits import HELD_OUT_PAIRS, identity, reserved
from ..annotator import Annotation, Proposal
from .rounds import caption_of


def taught(graph: SceneGraph, text: str) -> bool:
    """Whether training may paint ``graph`` and learn to write ``text``: both keep off what is held out for evaluation, also
    where a model has painted a held-out pair that should be removed."""
    return not reserved(graph) and not any(pair.name in text for pair in HELD_OUT_PAIRS)


class ShapesAnnotator:
    """Fulfils :class:`.roles.Annotator`. ``rng`` places what has to be placed anew.
    Steps and refinements with anything kept for evaluation are not :func:`taught`."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def read(self, picture: Picture | None) -> list[Detection]:
        return [] if picture is None else detect(picture.image)

    def propose(self, prompt: str, canvas: Sequence[Detection]) -> Proposal | None:
        step = next_step(read_prompt(prompt), canvas, self.rng)
        if step is None or not taught(step.graph, step.instruction):
            return None
        return Proposal(step.instruction, describe(step.graph), step.scene)

    def annotate(
        self, prompt: str, plan: Plan, canvas: Sequence[Detection], sketch: Sequence[Detection]
    ) -> Annotation | None:
        """A plan is learned where it says what the annotator would say, who mends first and then adds, in any order."""
        graph = read_prompt(prompt)
        try:
            planned = read_prompt(plan.description)
        except StrokesError:
            return None
        judgement = judge(graph, planned, canvas, sketch)
        refined = mend(judgement.found, self.rng) if judgement.correction else None
        if judgement.correction and (refined is None or not taught(judgement.graph, judgement.correction)):
            return None
        step = next_step(graph, canvas, self.rng)
        adds = step is not None and step.instruction.startswith("add ")
        steps = additions(graph, canvas, self.rng) if adds else [step] if step else []
        said = (plan.instruction, identity(planned))
        right = [
            s.scene for s in steps if said == (s.instruction, identity(s.graph)) and taught(s.graph, s.instruction)
        ]
        wanted = right[0] if right else None
        return Annotation(
            wanted, refined, caption_of(judgement), judgement.explanation, judgement.correction, judgement.kind
        )

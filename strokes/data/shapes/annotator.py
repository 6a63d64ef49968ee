"""The annotator of the shapes world: it reads pictures by rules and draws scenes."""

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
    """Whether training may paint ``graph`` and learn to write ``text``: neither may hold what is held out for evaluation.

    ``text`` names a held-out pair even where it asks to remove one that a model has painted.
    """
    return not reserved(graph) and not any(pair.name in text for pair in HELD_OUT_PAIRS)


class ShapesAnnotator:
    """The :class:`..annotator.Annotator` of the shapes world; ``rng`` draws the positions of shapes placed anew.

    It proposes and refines only what is :func:`taught`.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def read(self, picture: Picture | None) -> list[Detection]:
        return [] if picture is None else detect(picture.image)

    def propose(self, prompt: str, canvas: Sequence[Detection]) -> Proposal | None:
        proposed = next_step(read_prompt(prompt), canvas, self.rng)
        if proposed is None or not taught(proposed.graph, proposed.instruction):
            return None
        return Proposal(proposed.instruction, describe(proposed.graph), proposed.scene)

    def annotate(
        self, prompt: str, plan: Plan, canvas: Sequence[Detection], sketch: Sequence[Detection]
    ) -> Annotation | None:
        """The plan is learned (``wanted`` is given) where the annotator could have proposed it: it mends first, then adds
        in any order."""
        graph = read_prompt(prompt)
        try:
            planned = read_prompt(plan.description)
        except StrokesError:
            return None
        judgement = judge(graph, planned, canvas, sketch)
        refined = mend(judgement.found, self.rng) if judgement.correction else None
        if judgement.correction and (refined is None or not taught(judgement.graph, judgement.correction)):
            return None
        proposed = next_step(graph, canvas, self.rng)
        adds = proposed is not None and proposed.instruction.startswith("add ")
        choices = additions(graph, canvas, self.rng) if adds else [proposed] if proposed else []
        said = (plan.instruction, identity(planned))
        right = [
            s.scene for s in choices if said == (s.instruction, identity(s.graph)) and taught(s.graph, s.instruction)
        ]
        return Annotation(
            wanted=right[0] if right else None,
            refined=refined,
            caption=caption_of(judgement),
            explanation=judgement.explanation,
            correction=judgement.correction,
            kind=judgement.kind,
        )

"""The annotator's protocol: an annotator labels rollouts with the right plan, critique and refinement.

Rollouts know annotators by this protocol only; which world the pictures show, the annotator alone knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..process.pictures import Picture
from ..process.trajectory import Plan
from .samples import Drawing

# What an annotator has read off a picture.
Reading = TypeVar("Reading")


@dataclass(frozen=True)
class Proposal:
    """A plan for a canvas, and ``drawing``, the canvas after it. Instruction "" is the end of the process."""

    instruction: str
    description: str
    drawing: Drawing


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """Annotation of a plan and the sketch that a model painted for it.

    wanted: the right sketch; None where the plan is not to be learned.
    refined: the refined sketch; None where nothing is refined.
    caption: what the sketch shows, in words, right or not; "" where training may not name it.
    explanation, correction, kind: the critique, as in :class:`.samples.RoundSample`.
    """

    wanted: Drawing | None
    refined: Drawing | None
    caption: str
    explanation: str
    correction: str
    kind: str


class Annotator(Protocol[Reading]):
    """Reads pictures, and says from its readings what the model should have planned, said and painted.

    For shapes it is a set of rules and a renderer (:class:`.shapes.annotator.ShapesAnnotator`).
    """

    def read(self, picture: Picture | None) -> Reading:
        """The reading of a picture; None is an empty canvas."""
        ...

    def propose(self, prompt: str, canvas: Reading) -> Proposal | None:
        """The next plan for a canvas; None where the annotator knows none."""
        ...

    def annotate(self, prompt: str, plan: Plan, canvas: Reading, sketch: Reading) -> Annotation | None:
        """The annotation of a plan and its sketch; None where the plan cannot be read, or nothing can be done."""
        ...

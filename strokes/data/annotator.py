"""What building training data asks of whoever judges the world of the pictures; nothing here judges which world it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..process.pictures import Picture
from ..process.trajectory import Plan
from .samples import Drawing

Reading = TypeVar("Reading")


@dataclass(frozen=True)
class Proposal:
    """What to do next with a canvas, and the canvas afterwards. ``instruction`` "" is the end of the process."""

    instruction: str
    description: str
    drawing: Drawing


@dataclass(frozen=True)
class Annotation:
    """Of a plan and the sketch made for it. ``wanted`` is what the sketch should have been (None where the plan is not to be
    learned), ``refined`` what it should become (None where it is right). The others are a critique's; ``caption`` says what the
    sketch shows, whether or not that is right ("" where that may not be named)."""

    wanted: Drawing | None
    refined: Drawing | None
    caption: str
    explanation: str
    correction: str
    kind: str


class Annotator(Protocol[Reading]):
    """Who judges better: for shapes a rule-based reader of pictures and a renderer; for real pictures a language model that
    looks and an image editor that paints. A ``Reading`` is what it saw in a picture; that of None is an empty canvas."""

    def read(self, picture: Picture | None) -> Reading: ...

    def propose(self, prompt: str, canvas: Reading) -> Proposal | None:
        """None where it judges no way on."""
        ...

    def annotate(self, prompt: str, plan: Plan, canvas: Reading, sketch: Reading) -> Annotation | None:
        """None where the plan cannot be read, or nothing can be done."""
        ...

"""Dialects: a prompt format, which says what a checkpoint sees at each stage, and a parser of its replies.

A model trained on the paper's tags continues one growing prefix; base BAGEL, which was not, is asked in plain language
in the formats it does know: question about a picture, picture from text, edit of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from ..grammar import ParsedCritique, ParsedPlan
from ..painter import PictureForm, TextSettings, Written
from ..pictures import Picture
from ..trajectory import Trajectory


@dataclass(frozen=True)
class TextSegment:
    """A text that is read as a segment of its own."""

    text: str


@dataclass(frozen=True)
class PictureSegment:
    """A picture, and the form in which it is read."""

    picture: Picture
    form: PictureForm


Segment = TextSegment | PictureSegment
# "end" asks, between rounds, whether the work is finished.
Asked = Literal["plan", "sketch", "inspect", "refine", "end"]
# A person's edit of a picture, and their question about one, outside any process.
OneShot = Literal["edit", "ask"]


class Dialect(Protocol):
    """A prompt format and its parser. It holds no state: everything is a function of the trajectory."""

    @property
    def forms(self) -> Mapping[Asked | OneShot, PictureForm]:
        """The form in which the model reads the pictures it is shown, by what it is asked."""
        ...

    @property
    def end_settings(self) -> TextSettings:
        """How the reply to "end" is written."""
        ...

    def opening(self, prompt: str) -> str:
        """The first text the model reads of a prompt."""
        ...

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        """What the model sees at a stage, in order."""
        ...

    def plan_start(self, instruction: str) -> str:
        """What a reply that completes a given instruction must begin with; "" where there is nothing to complete."""
        ...

    def write_plan(self, instruction: str, description: str) -> str:
        """A plan as the model would have written it. Raises StrokesError without an instruction."""
        ...

    def write_critique(self, explanation: str, correction: str) -> str:
        """A critique as the model would have written it; without a correction it accepts."""
        ...

    def parse_plan(self, text: str) -> ParsedPlan:
        """Read a plan; of a text that is none, the problem is named."""
        ...

    def parse_critique(self, text: str) -> ParsedCritique:
        """Read a critique; of a text that is none, the problem is named."""
        ...

    def finished(self, written: Written) -> bool:
        """Read the reply to "end"."""
        ...

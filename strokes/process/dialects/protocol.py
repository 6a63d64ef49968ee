"""How a checkpoint is spoken to: what it sees at each stage, and how its replies are read.

A model trained on the paper's tags continues one growing prefix; base BAGEL, which was not, is asked in plain language
in the formats it does know: question about a picture, picture from text, edit of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ..grammar import ParsedCritique, ParsedPlan
from ..painter import TextSettings, Written
from ..pictures import Picture
from ..trajectory import Trajectory


@dataclass(frozen=True)
class TextSegment:
    text: str


@dataclass(frozen=True)
class PictureSegment:
    picture: Picture


Segment = TextSegment | PictureSegment
# "end" asks, between rounds, whether the work is finished.
Asked = Literal["plan", "sketch", "inspect", "refine", "end"]


class Dialect(Protocol):
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

    def write_plan(self, instruction: str, description: str) -> str: ...

    def write_critique(self, explanation: str, correction: str) -> str: ...

    def parse_plan(self, text: str) -> ParsedPlan: ...

    def parse_critique(self, text: str) -> ParsedCritique: ...

    def finished(self, written: Written) -> bool:
        """Read the reply to "end"."""
        ...

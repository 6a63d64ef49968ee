"""The paper's tags, for a model trained on them, and the miniature's view of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .. import grammar
from ..grammar import ParsedCritique, ParsedPlan
from ..painter import PictureForm, TextSettings, Written
from ..trajectory import Round, Trajectory
from .protocol import Asked, OneShot, PictureSegment, Segment, TextSegment

ACCEPTED = "The step is correct."


@dataclass(frozen=True)
class TagDialect:
    """The paper's tags. ``view`` says what is seen of earlier rounds: all of them in full ("whole"), or only the last
    picture before this round ("round"): Markov over rounds, so the context does not grow."""

    view: Literal["whole", "round"]
    forms: Mapping[Asked | OneShot, PictureForm]
    # The token after a picture is the whole decision: end of text, or the first of a next plan.
    end_settings = TextSettings(temperature=0.0, max_tokens=1)

    def opening(self, prompt: str) -> str:
        return f"Please create the image step-by-step: {prompt}"

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        current = trajectory.current_round
        if self.view == "whole":
            earlier, visible = trajectory.start, trajectory.rounds
        else:
            earlier, visible = trajectory.picture_before_round, (current,) if current else ()
        form = self.forms[asked]
        segments: list[Segment] = [TextSegment(self.opening(trajectory.prompt))]
        if earlier:
            segments.append(PictureSegment(earlier, form))
        for round_ in visible:
            segments += _round_segments(round_, form)
        return segments

    def plan_start(self, instruction: str) -> str:
        return grammar.write_plan(instruction) + "<des>"

    def write_plan(self, instruction: str, description: str) -> str:
        return grammar.write_plan(instruction, description)

    def write_critique(self, explanation: str, correction: str) -> str:
        return grammar.write_critique(explanation or ("" if correction else ACCEPTED), correction)

    def parse_plan(self, text: str) -> ParsedPlan:
        return grammar.parse_plan(text)

    def parse_critique(self, text: str) -> ParsedCritique:
        return grammar.parse_critique(text)

    def finished(self, written: Written) -> bool:
        return written.ended and not written.text.strip()


def _round_segments(round_: Round, form: PictureForm) -> list[Segment]:
    segments: list[Segment] = [TextSegment(round_.plan.text)]
    if round_.sketch:
        segments.append(PictureSegment(round_.sketch.picture, form))
    if round_.critique and round_.critique.text:
        segments.append(TextSegment(round_.critique.text))
    if round_.refinement and round_.refinement.picture:
        segments.append(PictureSegment(round_.refinement.picture, form))
    return segments


# As trained: every stage continues the same prefix.
_FORMS: Mapping[Asked | OneShot, PictureForm] = {
    "plan": "latents+pixels",
    "sketch": "latents+pixels",
    "inspect": "latents+pixels",
    "refine": "latents+pixels",
    "end": "latents+pixels",
    "edit": "latents+pixels",
    "ask": "latents+pixels",
}

PAPER = TagDialect("whole", _FORMS)
MINIATURE = TagDialect("round", _FORMS)

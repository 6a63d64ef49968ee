"""The paper's tags, as its own models and the miniature write them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .. import grammar
from ..settings import PictureForm
from ..trajectory import Round, Trajectory
from .protocol import (
    Answers,
    Asked,
    CritiqueReply,
    OneShot,
    PictureSegment,
    PlanReply,
    Segment,
    Session,
    TextSegment,
    Verdict,
    before_last_text,
)

ACCEPTED = "The step is correct."

# As trained: every stage continues the same prefix.
FORMS: Mapping[Asked | OneShot, PictureForm] = {
    "plan": "latents+pixels",
    "sketch": "latents+pixels",
    "inspect": "latents+pixels",
    "refine": "latents+pixels",
    "end": "latents+pixels",
    "edit": "latents+pixels",
    "ask": "latents+pixels",
}
# After a picture: the end of the text, or the first tag of a next plan.
ENDS: Answers = {"the end": ("",), "<ins>": ("<ins>",)}
# Tokens of a plan with its description at most, and of a critique before its correction.
PLAN_TOKENS, EXPLANATION_TOKENS = 128, 128


@dataclass(frozen=True, kw_only=True)
class TagDialect(ABC):
    """The paper's tags. Where in a critique the verdict is measured, a subclass says.

    ``view`` says what is seen of earlier rounds: all of them in full ("whole"), or only the last picture before this round
    ("round"): Markov over rounds, so the context does not grow.
    ``accept_from`` and ``end_from`` are the thresholds of the verdicts on a picture and on the end.
    """

    name: str
    view: Literal["whole", "round"]
    accept_from: float = 0.0
    end_from: float = 0.0
    forms: Mapping[Asked | OneShot, PictureForm] = field(default_factory=lambda: FORMS)
    profile: Mapping[str, Any] = field(default_factory=dict)
    describes: bool = True

    @property
    def answers(self) -> Sequence[Answers]:
        return self.verdicts, ENDS

    @property
    @abstractmethod
    def verdicts(self) -> Answers:
        """What tells an accepting critique from a correcting one, the accepting first."""

    def opening(self, prompt: str) -> str:
        return f"Please create the image step-by-step: {prompt}"

    def plans(self, trajectory: Trajectory) -> bool:
        return True

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

    def text_free(self, segments: Sequence[Segment]) -> list[Segment]:
        return before_last_text(segments)

    def write_plan(self, instruction: str, description: str) -> str:
        return grammar.write_plan(instruction, description)

    def write_critique(self, explanation: str, correction: str, trajectory: Trajectory | None = None) -> str:
        return grammar.write_critique(explanation or ("" if correction else ACCEPTED), correction)

    def plan(self, session: Session, instruction: str) -> PlanReply:
        start = f"{grammar.write_plan(instruction)}<des>" if instruction else ""
        session.check_text(start)
        written = session.write(self.segments(session.trajectory, "plan"), start=start, max_tokens=PLAN_TOKENS)
        parsed = grammar.parse_plan(written.text)
        if parsed.ends:
            problem = "" if written.ended else "the model wrote no plan"
            return PlanReply(ends=written.ended, text=written.text, problem=problem)
        cut_off = "" if written.ended else f"the plan was cut off after {written.tokens} tokens"
        return PlanReply(
            instruction=parsed.instruction,
            description=parsed.description,
            text=written.text,
            problem=parsed.problem or cut_off,
        )

    @abstractmethod
    def inspect(self, session: Session) -> CritiqueReply: ...

    @abstractmethod
    def verdict(self, session: Session) -> Verdict: ...

    def end(self, session: Session) -> Verdict:
        return session.decide(self.segments(session.trajectory, "end"), ENDS, self.end_from)

    def readable(self, asked: Asked, text: str) -> str:
        return grammar.readable(asked, text)


def _round_segments(round_: Round, form: PictureForm) -> list[Segment]:
    segments: list[Segment] = [TextSegment(round_.plan.text)] if round_.plan else []
    if round_.sketch:
        segments.append(PictureSegment(round_.sketch.picture, form))
    if round_.critique and round_.critique.text:
        segments.append(TextSegment(round_.critique.text))
    if round_.refinement and round_.refinement.picture:
        segments.append(PictureSegment(round_.refinement.picture, form))
    return segments

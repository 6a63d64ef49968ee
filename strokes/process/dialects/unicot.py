"""The dialect of Uni-CoT in self-reflection mode: a thought, a picture, then an evaluation and a suggestion a round.

Every round looks at the last picture alone. What the model sees and its settings are those of its authors' script
(github.com/Fr0zenCrane/UniCoT, inference_mdp_self_reflection.py). Two texts are theirs and come from a file: the system
prompt, and the request to write a suggestion in more detail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..settings import PictureForm
from ..trajectory import Trajectory
from .protocol import (
    STEP_TOKENS,
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
    last_verdict,
    write_untagged_plan,
)
from .replies import one_line
from .session import log_rest, verdict_of

SUGGESTION = "<sugg>"
# How a suggestion begins that asks for no edit. Source: the phrases that its authors' script looks for. The bracket belongs
# to the answer: Qwen2.5 writes ">No" as one token.
NO_EDIT: Answers = {"no edit": (">Everything is good", ">Everything is well", ">No editing", ">no editing")}
_TAGS = re.compile(r"</?(?:sr|sugg|think)>")


@dataclass(frozen=True, kw_only=True)
class UniCoTDialect:
    """Evaluations in ``<sr>``, suggestions in ``<sugg>``.

    ``accept_from`` is the threshold of "no edit" against every other beginning of a suggestion.
    """

    name: str = "uni-cot"
    system_prompt: str
    request_detail: str
    accept_from: float = 0.0
    forms: Mapping[Asked | OneShot, PictureForm] = field(
        default_factory=lambda: {
            "plan": "latents+pixels",
            "sketch": "latents+pixels",
            "inspect": "pixels",
            "refine": "latents+pixels",
            "end": "pixels",
            "edit": "latents+pixels",
            "ask": "pixels",
        }
    )
    profile: Mapping[str, Any] = field(
        default_factory=lambda: {
            "first": {"steps": 49, "text_guidance": 4.0, "image_guidance": 1.0, "interval": [0.4, 1.0], "shift": 3.0},
            "edit": {
                "steps": 49,
                "text_guidance": 4.0,
                "image_guidance": 2.0,
                "interval": [0.0, 1.0],
                "renorm": "text_channel",
                "shift": 3.0,
            },
            "text": {"temperature": 0.3, "max_tokens": 512},
            "vit_transform": {"max": 980, "min": 378, "stride": 14},
        }
    )
    describes: bool = False
    answers: Sequence[Answers] = (NO_EDIT,)

    def opening(self, prompt: str) -> str:
        return prompt

    def plans(self, trajectory: Trajectory) -> bool:
        return trajectory.picture is None

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        current, picture = trajectory.current_round, trajectory.picture
        thought = trajectory.last_plan
        segments: list[Segment] = [TextSegment(self.system_prompt), TextSegment(trajectory.prompt)]
        if asked == "plan":
            return segments
        shown: list[Segment] = [PictureSegment(picture, self.forms[asked])] if picture else []
        said: list[Segment] = [TextSegment(thought.text)] if thought else []
        if asked == "sketch":  # on a picture there already is, a person's step: an edit
            return [*segments, *shown, *said]
        segments += [*said, *shown]
        if asked == "refine" and current and current.critique:
            segments.append(TextSegment(current.critique.correction))
        return segments

    def text_free(self, segments: Sequence[Segment]) -> list[Segment]:
        # A first picture is guided away from nothing at all, its system prompt included.
        return before_last_text(segments) if any(isinstance(s, PictureSegment) for s in segments) else []

    def write_plan(self, instruction: str, description: str) -> str:
        return write_untagged_plan(instruction, description)

    def write_critique(self, explanation: str, correction: str, trajectory: Trajectory | None = None) -> str:
        return f"{explanation.strip()} {correction.strip()}".strip()

    def plan(self, session: Session, instruction: str) -> PlanReply:
        """A thought about the whole picture. It is kept in full: every later round reads it."""
        written = session.write(self.segments(session.trajectory, "plan"))
        thought = one_line(_TAGS.sub(" ", written.text))
        if not thought:
            return PlanReply(ends=True, problem="the model wrote no thought")
        problem = "" if written.ended else f"the thought was cut off after {written.tokens} tokens"
        return PlanReply(instruction=thought, text=written.text, problem=problem)

    def inspect(self, session: Session) -> CritiqueReply:
        seen, evaluation, verdict = self._judge(session)
        explanation = one_line(_TAGS.sub(" ", evaluation))
        if verdict.yes:
            return CritiqueReply(verdict=verdict, explanation=explanation, text=evaluation)
        brief = self._suggestion(session, seen)
        if not brief:
            problem = "the model rejects the picture, but wrote no suggestion"
            return CritiqueReply(verdict=verdict, explanation=explanation, text=evaluation, problem=problem)
        asked = [*seen, TextSegment(f"{SUGGESTION}{brief}</sugg>"), TextSegment(self.request_detail)]
        correction = self._suggestion(session, asked) or brief
        return CritiqueReply(verdict=verdict, explanation=explanation, correction=correction, text=evaluation)

    def verdict(self, session: Session) -> Verdict:
        return self._judge(session)[2]

    def _judge(self, session: Session) -> tuple[list[Segment], str, Verdict]:
        """What the model sees with its evaluation, the evaluation, and the verdict behind it."""
        seen = self.segments(session.trajectory, "inspect")
        evaluation = session.write(seen, stop=("</sr>",)).text
        evaluation = f"{evaluation}</sr>" if evaluation.startswith("<sr>") else evaluation
        seen = [*seen, TextSegment(evaluation)]
        accepts = session.weigh(seen, NO_EDIT, SUGGESTION.removesuffix(">"))["no edit"]
        return seen, evaluation, verdict_of(accepts, log_rest(accepts), self.accept_from, "an edit nor none")

    def _suggestion(self, session: Session, seen: Sequence[Segment]) -> str:
        written = session.write(seen, start=SUGGESTION, stop=("</sugg>",), max_tokens=STEP_TOKENS)
        return one_line(_TAGS.sub(" ", written.text))

    def end(self, session: Session) -> Verdict:
        """No question: the work is finished where the last picture was accepted."""
        return last_verdict(session.trajectory)

    def readable(self, asked: Asked, text: str) -> str:
        return one_line(_TAGS.sub(" ", text))

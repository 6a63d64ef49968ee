"""The dialect of UMM-Reflection: a controller that looks at its last picture, scores it, and says what to edit.

There is no plan: the first round paints the prompt, every later one looks at the picture again. The form of the
controller's replies, what it sees and its settings are those of its authors' evaluation (github.com/waltstephen/UMM-Reflection,
commit 8510796); sampling noise, which only its training needs, is left out. The system prompt is theirs too, and is read
from a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..settings import PictureForm
from ..trajectory import Trajectory
from .protocol import (
    REFERENCE_FORMS,
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

SCORES: Answers = {f"{score}/10": (f"{score}/10",) for score in range(11)}
ACTIONS: Answers = {"done": (" done",), "edit": (" edit",)}
# An edit of one of these words is none.
_NO_EDIT = ("", "none", "null", "n/a", "na")
# Tokens of the field [THINKING] at most: with the fields around it within the 512 of the authors' evaluation.
THINKING_TOKENS = 384
# The score of a person's rejection, which says nothing of how good the picture is.
UNSCORED = "5/10"


@dataclass(frozen=True, kw_only=True)
class ReflectionDialect:
    """A controller's replies in fields: round, score, action, thinking, source image, edit.

    ``system_prompt`` is the first text of all that the controller sees; ``done_from`` is the threshold of "done".
    """

    name: str = "reflection"
    system_prompt: str
    done_from: float = 0.0
    forms: Mapping[Asked | OneShot, PictureForm] = field(default_factory=lambda: REFERENCE_FORMS)
    profile: Mapping[str, Any] = field(
        default_factory=lambda: {
            "size": [512, 512],
            "max_side": 512,
            "rounds": 3,
            # As its evaluation calls the reference: image guidance is on for a first picture too.
            "first": {"steps": 49, "text_guidance": 3.0, "image_guidance": 1.5, "interval": [0.4, 1.0], "shift": 3.0},
            "edit": {
                "steps": 49,
                "text_guidance": 3.0,
                "image_guidance": 1.5,
                "interval": [0.4, 1.0],
                "renorm": "global",
                "shift": 3.0,
            },
            "text": {"temperature": 0.5, "max_tokens": 512},
            # 490/112/7 in its code, of which a stride of 7 cannot be: patches are 14 pixels wide. At 512×512 both give 490.
            "vit_transform": {"max": 490, "min": 112, "stride": 14},
        }
    )
    describes: bool = False
    answers: Sequence[Answers] = (SCORES, ACTIONS)

    def opening(self, prompt: str) -> str:
        return prompt

    def plans(self, trajectory: Trajectory) -> bool:
        return False

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        current, form = trajectory.current_round, self.forms[asked]
        if asked == "sketch":
            text = current.plan.instruction if current and current.plan else trajectory.prompt
            return self._edit(trajectory, text, form)
        if asked == "refine":
            return self._edit(trajectory, current.critique.correction if current and current.critique else "", form)
        segments: list[Segment] = [TextSegment(self.system_prompt), TextSegment(trajectory.prompt)]
        shown = [PictureSegment(trajectory.start, form)] if trajectory.start else []
        for round_ in trajectory.rounds:
            if round_.sketch:
                shown = [PictureSegment(round_.sketch.picture, form)]
            if round_ is current or not round_.refinement:
                break
            segments += shown
            if round_.critique and round_.critique.text:
                segments.append(TextSegment(round_.critique.text))
            if round_.refinement.picture:
                shown = [PictureSegment(round_.refinement.picture, form)]
        return [*segments, *shown]

    def _edit(self, trajectory: Trajectory, text: str, form: PictureForm) -> list[Segment]:
        """What is painted from: the last picture and a text alone, not what the controller has seen."""
        picture = trajectory.picture
        return [*([PictureSegment(picture, form)] if picture else []), TextSegment(text)]

    def text_free(self, segments: Sequence[Segment]) -> list[Segment]:
        return before_last_text(segments)

    def write_plan(self, instruction: str, description: str) -> str:
        return write_untagged_plan(instruction, description)

    def write_critique(self, explanation: str, correction: str, trajectory: Trajectory | None = None) -> str:
        number, source = _numbers(trajectory) if trajectory else (0, "Image #0")
        score = UNSCORED if correction else "10/10"
        return render(number, score, one_line(explanation) or "None", source, one_line(correction))

    def plan(self, session: Session, instruction: str) -> PlanReply:
        return PlanReply(ends=True, problem="this model does not plan")

    def inspect(self, session: Session) -> CritiqueReply:
        number, source = _numbers(session.trajectory)
        score, verdict = self._judge(session, number)
        if verdict.problem:
            return CritiqueReply(verdict=verdict, problem=verdict.problem)
        segments = self.segments(session.trajectory, "inspect")
        start = f"{_opening(number)}{score}\n[ACTION] {'done' if verdict.yes else 'edit'}\n[THINKING]"
        stop = ("[SOURCE_IMAGE]", "</think>", "[EDIT]")
        written = session.write(segments, start=start, stop=stop, max_tokens=THINKING_TOKENS)
        thinking = one_line(written.text.rpartition("[THINKING]")[2]) or "None"
        edit = problem = ""
        if not verdict.yes:
            start = render(number, score, thinking, source, "…").removesuffix(" …")
            written = session.write(segments, start=start, stop=("\n",), max_tokens=STEP_TOKENS)
            edit = one_line(written.text.rpartition("[EDIT]")[2])
        if not verdict.yes and edit.startswith(("<", "[")):
            edit, problem = "", "the model rejects the picture, but wrote another field in place of an edit"
        elif not verdict.yes and edit.lower().strip(" .\"'“”`-") in _NO_EDIT:
            # The authors' host reads an edit without a text as done.
            verdict, edit, problem = Verdict(yes=True), "", "the model asked for an edit, but named none"
        return CritiqueReply(
            verdict=verdict,
            explanation=f"{score}: {thinking}",
            correction=edit,
            text=render(number, score, thinking, source, edit) if verdict.yes or edit else "",
            problem=problem,
        )

    def verdict(self, session: Session) -> Verdict:
        return self._judge(session, _numbers(session.trajectory)[0])[1]

    def _judge(self, session: Session, number: int) -> tuple[str, Verdict]:
        """The likeliest score, and the verdict behind it."""
        segments = self.segments(session.trajectory, "inspect")
        weights = session.weigh(segments, SCORES, _opening(number))
        score = max(weights, key=lambda each: weights[each])
        start = f"{_opening(number)}{score}\n[ACTION]"
        return score, session.decide(segments, ACTIONS, self.done_from, start)

    def end(self, session: Session) -> Verdict:
        """No question: the work is finished where the last picture was accepted."""
        return last_verdict(session.trajectory)

    def readable(self, asked: Asked, text: str) -> str:
        return one_line(text.split("[THINKING]")[-1].replace("</think>", "").replace("[EDIT]", "→"))


def _numbers(trajectory: Trajectory) -> tuple[int, str]:
    """The controller's round, from 0, and the name of the picture that it looks at."""
    done = [round_.refinement for round_ in trajectory.rounds if round_.refinement]
    painted = sum(1 for each in done if each.picture)
    outside = trajectory.start and not painted and not any(round_.sketch for round_ in trajectory.rounds)
    return len(done), "given" if outside else f"Image #{painted}"


def _opening(number: int) -> str:
    return f"<think>\n[CURRENT_ROUND] Round#{number}\n[SCORE] "


def render(number: int, score: str, thinking: str, source: str, edit: str) -> str:
    """A reply in the form in which the controller reads it back; without an ``edit`` its action is "done"."""
    return (
        f"{_opening(number)}{score}\n[ACTION] {'edit' if edit else 'done'}\n[THINKING] {thinking}\n"
        f"[SOURCE_IMAGE] {source}\n</think>\n[EDIT] {edit or 'None'}"
    )

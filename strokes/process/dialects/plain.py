"""Plain language, for base BAGEL, which was not trained on tags: one picture and one question or instruction at a time.

A verdict is a question that is answered yes or no, of which the probabilities are compared; a correction is asked for only
after a no. What the model writes freely, :mod:`.replies` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import grammar
from ..settings import PictureForm, Written
from ..trajectory import Trajectory
from . import replies
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
)

YES_NO: Answers = {"yes": ("Yes", " Yes", "yes", " yes", "YES"), "no": ("No", " No", "no", " no", "NO")}


@dataclass(frozen=True, kw_only=True)
class PlainDialect:
    """Plain language. The texts are templates of ``{prompt}``, ``{steps}`` (the instructions so far) and ``{instruction}``.

    ``accept_from`` and ``end_from`` are the thresholds of the verdicts on a step and on the end, in natural logarithms.
    """

    name: str = "plain"
    first_plan: str = (
        'To paint "{prompt}" step by step, what should be painted first? Answer with one short instruction for this step '
        "alone, such as: Paint a red chair on the left."
    )
    next_plan: str = (
        'This picture is on its way to "{prompt}". These steps were painted: {steps} What should be added or changed '
        "next? Answer with one short instruction for this step alone, such as: Add a red chair on the left. If nothing is "
        "missing, answer: Finished."
    )
    first_sketch: str = '{instruction} This is the first step of a picture of "{prompt}".'
    inspect_step: str = (
        'This picture is on its way to "{prompt}". The last step was: {instruction} What is not drawn yet will come later '
        "and is not an error. Was this step painted as described? Answer yes or no."
    )
    correct_step: str = (
        'This picture is on its way to "{prompt}". The last step was not painted as described: {instruction} Answer with '
        "one short instruction that corrects the picture, such as: Move the chair to the left."
    )
    correct_start: str = "To correct it:"
    is_finished: str = 'Is this picture a finished painting of "{prompt}", with nothing missing? Answer yes or no.'
    accept_from: float = 0.0
    end_from: float = 0.0
    forms: Mapping[Asked | OneShot, PictureForm] = field(default_factory=lambda: REFERENCE_FORMS)
    profile: Mapping[str, Any] = field(default_factory=dict)
    describes: bool = False
    answers: Sequence[Answers] = (YES_NO,)

    def opening(self, prompt: str) -> str:
        return self.first_plan.format(prompt=prompt)

    def plans(self, trajectory: Trajectory) -> bool:
        return True

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        current, picture = trajectory.current_round, trajectory.picture
        text = self.first_plan
        if asked == "plan" and picture:
            text = self.next_plan
        elif asked == "inspect":
            text = self.inspect_step
        elif asked == "end":
            text = self.is_finished
        elif asked == "sketch" and current and current.plan:
            step = self.write_plan(current.plan.instruction, current.plan.description)
            whole = picture or current.plan.instruction == trajectory.prompt
            return self._seen(trajectory, asked, "{instruction}" if whole else self.first_sketch, step)
        elif asked == "refine":
            correction = current.critique.correction if current and current.critique else ""
            return self._seen(trajectory, asked, "{instruction}", correction)
        return self._seen(trajectory, asked, text)

    def _seen(
        self, trajectory: Trajectory, asked: Asked, template: str, instruction: str | None = None
    ) -> list[Segment]:
        """The last picture, and a template filled in; ``instruction`` None is that of the last plan."""
        plans = [_sentence(round_.plan.instruction) for round_ in trajectory.rounds if round_.plan]
        last = plans[-1] if plans else _sentence(trajectory.prompt)
        text = template.format(
            prompt=trajectory.prompt,
            steps=" ".join(plans) or "none yet.",
            instruction=last if instruction is None else instruction,
        )
        picture = trajectory.picture
        return [*([PictureSegment(picture, self.forms[asked])] if picture else []), TextSegment(text)]

    def text_free(self, segments: Sequence[Segment]) -> list[Segment]:
        return before_last_text(segments)

    def write_plan(self, instruction: str, description: str) -> str:
        grammar.check_instruction(instruction)
        return f"{_sentence(instruction)} {description.strip()}" if description.strip() else instruction.strip()

    def write_critique(self, explanation: str, correction: str, trajectory: Trajectory | None = None) -> str:
        return " ".join(text for text in (explanation.strip(), correction.strip()) if text) or "Correct."

    def plan(self, session: Session, instruction: str) -> PlanReply:
        written = _write_step(session, self.segments(session.trajectory, "plan"))
        step = replies.read_plan(written.text, written.ended)
        return PlanReply(instruction=step.instruction, text=written.text, ends=step.finished, problem=step.problem)

    def inspect(self, session: Session) -> CritiqueReply:
        verdict = self.verdict(session)
        if verdict.yes or verdict.problem:
            return CritiqueReply(verdict=verdict, text="Correct." if verdict.yes else "", problem=verdict.problem)
        segments = self._seen(session.trajectory, "inspect", self.correct_step)
        written = _write_step(session, segments, self.correct_start)
        said = written.text.removeprefix(self.correct_start)
        step = replies.read_correction(said, written.ended)
        problem = f"the model rejects the step, but wrote no correction: {step.problem}" if step.problem else ""
        return CritiqueReply(verdict=verdict, correction=step.instruction, text=written.text, problem=problem)

    def verdict(self, session: Session) -> Verdict:
        return session.decide(self.segments(session.trajectory, "inspect"), YES_NO, self.accept_from)

    def end(self, session: Session) -> Verdict:
        return session.decide(self.segments(session.trajectory, "end"), YES_NO, self.end_from)

    def readable(self, asked: Asked, text: str) -> str:
        return text


def _write_step(session: Session, segments: Sequence[Segment], start: str = "") -> Written:
    """A reply up to the end of its first line that says something usable, of :data:`STEP_TOKENS` tokens at most in all.

    A line such as "Sure! Here is the next step:" says nothing yet: the model goes on behind it.
    """
    read = replies.read_correction if start else replies.read_plan
    so_far, spent = start, 0
    while True:
        written = session.write(segments, start=so_far, stop=("\n",), max_tokens=STEP_TOKENS - spent)
        spent += max(written.tokens, 1)
        said = read(written.text.removeprefix(start), written.ended)
        if said.instruction or said.finished or not written.stopped or spent >= STEP_TOKENS:
            return written
        so_far = f"{written.text}\n"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


PLAIN = PlainDialect()

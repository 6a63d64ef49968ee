"""Plain language, for base BAGEL, which was not trained on tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import StrokesError
from ..grammar import ParsedCritique, ParsedPlan
from ..painter import PictureForm, TextSettings, Written
from ..trajectory import Trajectory
from .protocol import Asked, OneShot, PictureSegment, Segment, TextSegment

_PLAN = (
    'To paint "{prompt}" step by step, {so_far}what should be {verb} next? Answer with one short instruction for this '
    "step alone, such as: Add a red chair on the left. If nothing is missing, answer: Finished."
)

_INSPECT = (
    'This picture is on its way to "{prompt}". The last step was: {instruction} What is not drawn yet will come later '
    "and is not an error. If the step was painted as it says, answer: Correct. Otherwise answer with one short "
    "instruction that corrects the picture."
)

_END = 'Is this picture a finished painting of "{prompt}", with nothing missing? Answer yes or no.'

_LABEL = re.compile(
    r"^(?:(?:answer|instruction|correction|next step|step \d+|\d+)\s*[.:)]\s*|[-*•#]+\s+)+", re.IGNORECASE
)

_DONE = re.compile(
    r"(?:it is |the (?:picture|image|painting) is )?(?:finished|done|complete|nothing)\W*", re.IGNORECASE
)

_CORRECT = re.compile(
    r"(?:yes\W+)?(?:it is |it's |the (?:picture|image|step) is )?correct(?:[.,;:!]|$)"
    r"|(?:no\W+)?nothing (?:is |looks )?wrong\b|no (?:errors?|mistakes?|corrections?)\b|(?:no|none|nothing)\W*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PlainDialect:
    """Plain language for base BAGEL: each stage is one picture and one question or instruction."""

    forms: Mapping[Asked | OneShot, PictureForm]
    end_settings = TextSettings(temperature=0.0, max_tokens=8)

    def opening(self, prompt: str) -> str:
        return _PLAN.format(prompt=prompt, so_far="", verb="painted")

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        current, prompt = trajectory.current_round, trajectory.prompt
        picture, text = trajectory.picture, ""
        if asked == "plan":
            steps = " ".join(round_.plan.instruction for round_ in trajectory.rounds)
            so_far = f"after these steps: {steps} " if steps else ""
            text = _PLAN.format(prompt=prompt, so_far=so_far, verb="changed" if picture else "painted")
        elif asked == "end":
            text = _END.format(prompt=prompt)
        elif current and asked == "inspect":
            text = _INSPECT.format(prompt=prompt, instruction=_sentence(current.plan.instruction))
        elif current and asked == "sketch":
            text = self.write_plan(current.plan.instruction, current.plan.description)
        elif current and current.critique:
            text = current.critique.correction
        picture_first: list[Segment] = [PictureSegment(picture, self.forms[asked])] if picture else []
        return [*picture_first, TextSegment(text)]

    def plan_start(self, instruction: str) -> str:
        return ""

    def write_plan(self, instruction: str, description: str) -> str:
        if not instruction.strip():
            raise StrokesError("a plan needs an instruction: say what to change in this step")
        return f"{_sentence(instruction)} {description.strip()}" if description.strip() else instruction.strip()

    def write_critique(self, explanation: str, correction: str) -> str:
        return " ".join(text for text in (explanation.strip(), correction.strip()) if text) or "Correct."

    def parse_plan(self, text: str) -> ParsedPlan:
        answer = _answer(text)
        if not answer and text.strip():
            return ParsedPlan(text.strip(), problem="the plan is not a sentence")
        return ParsedPlan("", ends=True) if not answer or _DONE.fullmatch(answer) else ParsedPlan(answer)

    def parse_critique(self, text: str) -> ParsedCritique:
        answer = _answer(text)
        if not answer:
            return ParsedCritique(text.strip(), problem="the critique is empty; taken as accepted")
        if _CORRECT.match(answer):
            return ParsedCritique(text.strip())
        return ParsedCritique(text.strip(), answer, accepted=False)

    def finished(self, written: Written) -> bool:
        return re.match(r"\W*yes\b", written.text, re.IGNORECASE) is not None


def _answer(text: str) -> str:
    """The first line that says something, without list marks, labels and quotes around it."""
    lines = (_LABEL.sub("", line.strip(" \t*\"'`“”")).strip(" \t*\"'`“”") for line in text.splitlines())
    return next((line for line in lines if any(c.isalnum() for c in line)), "")


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


# As the reference: what is painted on is read as latents too, what is only asked about is not. Questions of a round read
# both, so that they share their prefix with the edit that follows.
PLAIN = PlainDialect(
    {
        "plan": "latents+pixels",
        "sketch": "latents+pixels",
        "inspect": "latents+pixels",
        "refine": "latents+pixels",
        "end": "latents+pixels",
        "edit": "latents+pixels",
        "ask": "pixels",
    }
)

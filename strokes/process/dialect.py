"""How a checkpoint is spoken to: what it sees at each stage, and how its replies are read.

A model trained on the paper's tags continues one growing prefix; base BAGEL, which was not, is asked in plain language
in the formats it does know: question about a picture, picture from text, edit of a picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol

from ..errors import StrokesError
from . import grammar
from .grammar import ParsedCritique, ParsedPlan
from .painter import Profile, TextSettings, Written
from .pictures import Picture
from .trajectory import Round, Trajectory


@dataclass(frozen=True)
class TextSegment:
    text: str


@dataclass(frozen=True)
class PictureSegment:
    picture: Picture


Segment = TextSegment | PictureSegment
# "end" asks, between rounds, whether the work is finished.
Asked = Literal["plan", "sketch", "inspect", "refine", "end"]

ACCEPTED = "The step is correct."


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


@dataclass(frozen=True)
class TagDialect:
    """The paper's tags. ``view`` says what is seen of earlier rounds: all of them in full ("whole"), or only the last
    picture before this round ("round"): Markov over rounds, so the context does not grow."""

    view: Literal["whole", "round"]
    # The token after a picture is the whole decision: end of text, or the first of a next plan.
    end_settings = TextSettings(temperature=0.0, max_tokens=1)

    def opening(self, prompt: str) -> str:
        return f"Please create the image step-by-step: {prompt}"

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        current = trajectory.current_round
        if self.view == "whole":
            earlier, visible = trajectory.start, trajectory.rounds
        else:
            earlier, visible = picture_before_round(trajectory), (current,) if current else ()
        seen: list[Segment] = [TextSegment(self.opening(trajectory.prompt))]
        if earlier:
            seen.append(PictureSegment(earlier))
        for step in visible:
            seen += _round_segments(step)
        return seen

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


def _round_segments(step: Round) -> list[Segment]:
    seen: list[Segment] = [TextSegment(step.plan.text)]
    if step.sketch:
        seen.append(PictureSegment(step.sketch.picture))
    if step.critique and step.critique.text:
        seen.append(TextSegment(step.critique.text))
    if step.refinement and step.refinement.picture:
        seen.append(PictureSegment(step.refinement.picture))
    return seen


def picture_before_round(trajectory: Trajectory) -> Picture | None:
    """The last picture made before the round in progress, or before the next one."""
    done = trajectory.rounds[: trajectory.round_index]
    return next((step.picture for step in reversed(done) if step.picture), trajectory.start)


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

    end_settings = TextSettings(temperature=0.0, max_tokens=8)

    def opening(self, prompt: str) -> str:
        return _PLAN.format(prompt=prompt, so_far="", verb="painted")

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        current, prompt = trajectory.current_round, trajectory.prompt
        picture, text = trajectory.picture, ""
        if asked == "plan":
            steps = " ".join(step.plan.instruction for step in trajectory.rounds)
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
        picture_first: list[Segment] = [PictureSegment(picture)] if picture else []
        return [*picture_first, TextSegment(text)]

    def plan_start(self, instruction: str) -> str:
        return ""

    def write_plan(self, instruction: str, description: str) -> str:
        if not instruction.strip():
            raise StrokesError("a plan needs an instruction: say what to change in this step")
        return f"{_sentence(instruction)} {description.strip()}" if description.strip() else instruction.strip()

    def write_critique(self, explanation: str, correction: str) -> str:
        return " ".join(part for part in (explanation.strip(), correction.strip()) if part) or "Correct."

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


PAPER = TagDialect("whole")
MINIATURE = TagDialect("round")
PLAIN = PlainDialect()
DIALECTS: dict[str, Dialect] = {"paper": PAPER, "miniature": MINIATURE, "plain": PLAIN}


def dialect_of(profile: Profile) -> Dialect:
    """Raises StrokesError for a dialect this version does not speak."""
    if profile.dialect not in DIALECTS:
        raise StrokesError(f"{profile.name}: unknown dialect {profile.dialect!r}; known are {', '.join(DIALECTS)}")
    return DIALECTS[profile.dialect]

"""Dialects: how a checkpoint is spoken to. What it sees at each stage, what it is asked there, and how its replies are read.

A model trained on the paper's tags continues one growing prefix; base BAGEL, which was not, is asked in plain language
in the formats it does know: question about a picture, picture from text, edit of a picture. What a model says yes or no to
is measured: the probabilities of given answers are compared. Everything else it writes, and the dialect parses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..grammar import check_instruction
from ..pictures import Picture
from ..settings import PictureForm, Written
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
# Answers by what they mean, each with its spellings; "" is the end of the text.
Answers = Mapping[str, Sequence[str]]

# Tokens of a plan or a correction at most.
STEP_TOKENS = 64

# As the reference: what is painted on is read as latents too, what is only asked about is not. Questions of a round read
# both, so that they share their prefix with the edit that follows.
REFERENCE_FORMS: Mapping[Asked | OneShot, PictureForm] = {
    "plan": "latents+pixels",
    "sketch": "latents+pixels",
    "inspect": "latents+pixels",
    "refine": "latents+pixels",
    "end": "latents+pixels",
    "edit": "latents+pixels",
    "ask": "pixels",
}


@dataclass(frozen=True, kw_only=True)
class PlanReply:
    """A plan as the model wrote it: ``text`` is what it reads back. ``ends`` where it planned nothing more.

    ``problem`` says why the reply could not be read as it should; with an empty instruction there is nothing to paint.
    """

    instruction: str = ""
    description: str = ""
    text: str = ""
    ends: bool = False
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A yes or no. Where it was measured, ``margin`` is the difference of the two log-probabilities less the dialect's
    threshold: at least 0 for yes. ``problem`` says why there is none: the model was likely to answer neither."""

    yes: bool = False
    margin: float | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class CritiqueReply:
    """A critique of the last picture: a verdict, its explanation, and a correction where it does not accept.

    ``text`` is what the model reads back. Unreadable where there is no verdict, or where it rejects without a correction
    that can be painted; ``problem`` says which.
    """

    verdict: Verdict
    explanation: str = ""
    correction: str = ""
    text: str = ""
    problem: str = ""

    @property
    def unreadable(self) -> bool:
        return bool(self.verdict.problem) or not (self.verdict.yes or self.correction)


def before_last_text(segments: Sequence[Segment]) -> list[Segment]:
    """The text-free branch of guidance as BAGEL's: the segments before a last text; all of them where a picture is last."""
    return list(segments[:-1] if segments and isinstance(segments[-1], TextSegment) else segments)


def write_untagged_plan(instruction: str, description: str) -> str:
    """A plan without tags: the instruction, then the description. Raises StrokesError without an instruction."""
    check_instruction(instruction)
    return f"{instruction.strip()} {description.strip()}".rstrip()


def last_verdict(trajectory: Trajectory) -> Verdict:
    """The verdict on the last round's picture as the trajectory holds it; no where it was not inspected."""
    last = trajectory.rounds[-1].critique
    return Verdict(yes=last.accepted, margin=last.margin) if last else Verdict()


class Session(Protocol):
    """One stage's questions to a model, as a dialect asks them; :class:`.session.StageSession` answers.

    Every method raises what the painter raises.
    """

    @property
    def trajectory(self) -> Trajectory: ...

    def check_text(self, text: str) -> None:
        """Raise StrokesError for a person's text that the model cannot read."""
        ...

    def write(
        self, segments: Iterable[Segment], *, start: str = "", stop: Sequence[str] = (), max_tokens: int | None = None
    ) -> Written:
        """What the model writes behind ``segments``, as in :meth:`..painter.Painter.write_text`: at most ``max_tokens``
        tokens, or what the profile allows where that is less; a person's own limit goes before both."""
        ...

    def weigh(self, segments: Iterable[Segment], answers: Answers, start: str = "") -> dict[str, float]:
        """The natural log-probability of each of ``answers`` behind ``segments`` and the forced ``start``, its spellings
        summed."""
        ...

    def decide(self, segments: Iterable[Segment], answers: Answers, threshold: float, start: str = "") -> Verdict:
        """The verdict between two ``answers``, of which the first means yes: yes where the difference of their
        log-probabilities reaches ``threshold``."""
        ...


class Dialect(Protocol):
    """How a checkpoint is spoken to. It holds no state: everything is a function of the trajectory."""

    @property
    def name(self) -> str: ...

    @property
    def forms(self) -> Mapping[Asked | OneShot, PictureForm]:
        """The form in which the model reads the pictures it is shown, by what it is asked."""
        ...

    @property
    def profile(self) -> Mapping[str, Any]:
        """What of a checkpoint's profile this dialect brings, in the form of config.json's key ``strokes``; the file wins."""
        ...

    @property
    def describes(self) -> bool:
        """Whether its plans have a description, which the model can write for a person's instruction."""
        ...

    @property
    def answers(self) -> Sequence[Answers]:
        """All answers whose probabilities it asks for."""
        ...

    def opening(self, prompt: str) -> str:
        """The first text the model reads of a prompt."""
        ...

    def plans(self, trajectory: Trajectory) -> bool:
        """Whether the next round has a plan. Without one it looks at the last picture again, and has a sketch only where
        there is no picture."""
        ...

    def segments(self, trajectory: Trajectory, asked: Asked) -> list[Segment]:
        """What the model sees at a stage, in order."""
        ...

    def text_free(self, segments: Sequence[Segment]) -> list[Segment]:
        """What the text-free branch of guidance sees when the main one sees ``segments``."""
        ...

    def write_plan(self, instruction: str, description: str) -> str:
        """A plan as the model would have written it. Raises StrokesError without an instruction."""
        ...

    def write_critique(self, explanation: str, correction: str, trajectory: Trajectory | None = None) -> str:
        """A critique as the model would have written it at this point of a trajectory; without a correction it accepts."""
        ...

    def plan(self, session: Session, instruction: str) -> PlanReply:
        """Let the model plan, or describe a person's ``instruction`` where that is not empty."""
        ...

    def inspect(self, session: Session) -> CritiqueReply:
        """Let the model judge the last picture, and say what to correct where it rejects it."""
        ...

    def verdict(self, session: Session) -> Verdict:
        """The verdict of :meth:`inspect` alone, at the least cost."""
        ...

    def end(self, session: Session) -> Verdict:
        """Whether the work is finished, once a round is closed."""
        ...

    def readable(self, asked: Asked, text: str) -> str:
        """A text in the making as a person reads it."""
        ...

"""The embedded model's dialect: the paper's tags, the last picture and its round alone, and a verdict in the first words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .. import grammar
from .protocol import Answers, CritiqueReply, Session, Verdict
from .session import log_sum, verdict_of
from .tags import TagDialect

# How every critique of the training data begins. Source: strokes/shapes/critic.py.
ACCEPTS = "the step is correct"
REJECTS = ("the picture is wrong", "the step is wrong")


@dataclass(frozen=True, kw_only=True)
class MiniatureDialect(TagDialect):
    """A critique begins with its verdict."""

    name: str = "miniature"
    view: Literal["whole", "round"] = "round"
    # A repainting breaks more right sketches than it mends wrong ones, so it has to be sure. Chosen among 0, -1, -2 and -3
    # on 400 prompts of their own: docs/results.md.
    accept_from: float = -2.0

    @property
    def verdicts(self) -> Answers:
        return {beginning: (beginning,) for beginning in (ACCEPTS, *REJECTS)}

    def inspect(self, session: Session) -> CritiqueReply:
        weights = self._weigh(session)
        verdict = self._verdict(weights)
        if verdict.problem:
            return CritiqueReply(verdict=verdict, problem=verdict.problem)
        start = _likeliest((ACCEPTS,) if verdict.yes else REJECTS, weights)
        written = session.write(self.segments(session.trajectory, "inspect"), start=start)
        parsed = grammar.parse_critique(written.text)
        correction = "" if verdict.yes else parsed.correction
        problem = "" if verdict.yes or correction else "the model rejects the picture, but wrote no correction"
        return CritiqueReply(
            verdict=verdict,
            explanation=parsed.explanation,
            correction=correction,
            text=written.text,
            problem=problem,
        )

    def verdict(self, session: Session) -> Verdict:
        return self._verdict(self._weigh(session))

    def _weigh(self, session: Session) -> dict[str, float]:
        return session.weigh(self.segments(session.trajectory, "inspect"), self.verdicts)

    def _verdict(self, weights: Mapping[str, float]) -> Verdict:
        rejects = log_sum([weights[each] for each in REJECTS])
        return verdict_of(weights[ACCEPTS], rejects, self.accept_from, '"correct" nor "wrong"')


def _likeliest(beginnings: Iterable[str], weights: Mapping[str, float]) -> str:
    return max(beginnings, key=lambda each: weights[each])


MINIATURE = MiniatureDialect()

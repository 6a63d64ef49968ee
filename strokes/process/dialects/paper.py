"""The paper's own dialect: tags, the whole process as one growing prefix, and a verdict where a correction would begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .. import grammar
from .protocol import STEP_TOKENS, Answers, CritiqueReply, Session, Verdict
from .tags import EXPLANATION_TOKENS, TagDialect

REFINE = "<refine>"


@dataclass(frozen=True, kw_only=True)
class PaperDialect(TagDialect):
    """A critique is an explanation, then ``<refine>`` with a correction or the end of the text: there the verdict is."""

    name: str = "paper"
    view: Literal["whole", "round"] = "whole"

    @property
    def verdicts(self) -> Answers:
        return {"the end": ("",), REFINE: (f" {REFINE}", REFINE)}

    def inspect(self, session: Session) -> CritiqueReply:
        verdict, explanation = self._judge(session)
        if verdict.problem or verdict.yes:
            return CritiqueReply(verdict=verdict, explanation=explanation, text=explanation, problem=verdict.problem)
        start = f"{explanation} {REFINE}".lstrip()
        segments = self.segments(session.trajectory, "inspect")
        written = session.write(segments, start=start, stop=("</refine>", "<\\refine>"), max_tokens=STEP_TOKENS)
        correction = grammar.parse_critique(written.text).correction
        text = grammar.write_critique(explanation, correction) if correction else explanation
        problem = "" if correction else "the model rejects the picture, but wrote no correction"
        return CritiqueReply(
            verdict=verdict, explanation=explanation, correction=correction, text=text, problem=problem
        )

    def verdict(self, session: Session) -> Verdict:
        return self._judge(session)[0]

    def _judge(self, session: Session) -> tuple[Verdict, str]:
        """The verdict, and the explanation before it."""
        segments = self.segments(session.trajectory, "inspect")
        written = session.write(segments, stop=(REFINE,), max_tokens=EXPLANATION_TOKENS)
        explanation = grammar.parse_critique(written.text).explanation
        if not written.ended:
            return Verdict(problem=f"the critique was cut off after {written.tokens} tokens"), explanation
        verdict = session.decide(segments, self.verdicts, self.accept_from, start=explanation)
        if verdict.yes and not explanation:
            return Verdict(problem="the critique is empty"), ""
        return verdict, explanation


PAPER = PaperDialect()

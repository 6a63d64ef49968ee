"""The paper's tags: ``<ins>…</ins><des>…</des>`` for a plan, free text ending in ``<refine>…</refine>`` for a critique.

Parsing is tolerant and total: closing tags may be missing, doubled or written ``<\\refine>``, and any text whatsoever
yields a result, with the reason in ``problem`` where it is not what was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import StrokesError

# Linear in any text: looking ahead to the ">" first drops most brackets at once, and each slash stands in a group with the
# spaces before it, because two runs of spaces side by side would take quadratic time.
_TAG = re.compile(
    r"<(?=[^<>]*>)(?:\s*([/\\]))?\s*(ins|des|refine)(?:\s*([/\\]))?\s*>",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ParsedPlan:
    """A parsed plan; ``ends`` where the text was the end token and nothing is left to plan."""

    instruction: str
    description: str = ""
    ends: bool = False
    problem: str = ""


@dataclass(frozen=True)
class ParsedCritique:
    """A parsed critique: what was seen, and the correction that ``<refine>`` holds, if any."""

    explanation: str
    correction: str = ""


def parse_plan(text: str) -> ParsedPlan:
    """Read a plan. Empty text is the end token; text without ``<ins>`` becomes the instruction, with a problem noted."""
    if not text.strip():
        return ParsedPlan("", ends=True)
    parts = _split(text)
    instruction, description = _first(parts, "ins"), _first(parts, "des")
    if instruction:
        return ParsedPlan(instruction, description)
    outside = _join(parts, "")
    return ParsedPlan(outside, description, problem="the plan has no <ins>…</ins>")


def parse_critique(text: str) -> ParsedCritique:
    """Read a critique. Whether it accepts is not read off it: a dialect measures that."""
    # Fig. 4 repeats <ins> and <des> inside a correction; only <refine> divides a critique.
    parts = _split(_TAG.sub(lambda tag: tag[0] if tag[2].lower() == "refine" else " ", text))
    return ParsedCritique(_join(parts, ""), _first(parts, "refine"))


def readable(stage: str, text: str) -> str:
    """Text in the making of the stage "plan" or "inspect", without tags."""
    if stage == "plan":
        plan = parse_plan(text)
        return " → ".join(part for part in (plan.instruction, plan.description) if part)
    critique = parse_critique(text)
    return " → ".join(part for part in (critique.explanation, critique.correction) if part)


def check_instruction(instruction: str) -> None:
    """Raise StrokesError for a plan's instruction that is empty."""
    if not instruction.strip():
        raise StrokesError("a plan needs an instruction: say what to change in this step")


def write_plan(instruction: str, description: str = "") -> str:
    """The inverse of :func:`parse_plan`. Raises StrokesError for an empty instruction or text that contains a tag."""
    check_instruction(instruction)
    plan = f"<ins>{untagged(instruction, 'instruction')}</ins>"
    return f"{plan}<des>{untagged(description, 'description')}</des>" if description.strip() else plan


def write_critique(explanation: str, correction: str = "") -> str:
    """The inverse of :func:`parse_critique`. Raises StrokesError for text that contains a tag."""
    explanation, correction = untagged(explanation, "critique"), untagged(correction, "correction")
    return f"{explanation} <refine>{correction}</refine>".lstrip() if correction else explanation


def untagged(text: str, what: str) -> str:
    """The text, stripped. Raises StrokesError where it contains one of the tags."""
    if tag := _TAG.search(text):
        raise StrokesError(f"the {what} contains the reserved tag {tag[0]}: remove it")
    return text.strip()


def _split(text: str) -> list[tuple[str, str]]:
    """(name of the tag just opened or "", text up to the next tag), in order."""
    parts, name, at = [], "", 0
    for tag in _TAG.finditer(text):
        parts.append((name, text[at : tag.start()].strip()))
        name, at = "" if tag[1] or tag[3] else tag[2].lower(), tag.end()
    return [*parts, (name, text[at:].strip())]


def _first(parts: list[tuple[str, str]], name: str) -> str:
    return next((text for tag, text in parts if tag == name and text), "")


def _join(parts: list[tuple[str, str]], name: str) -> str:
    return " ".join(text for tag, text in parts if tag == name and text)

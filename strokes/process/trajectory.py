"""The work so far, as an immutable value: prompt, canvas, and the turns of every round.

Every stage takes a trajectory and returns a new one; it alone is enough to continue the work on another machine.
Pictures compare by identity; everything else compares by value.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal

from PIL import Image

from ..errors import StrokesError
from .pictures import Picture, picture_from

FORMAT_VERSION = 2

Author = Literal["model", "user"]
Stage = Literal["plan", "sketch", "inspect", "refine", "ended"]


class OutOfOrder(StrokesError):
    """Error of a stage called out of order: another one comes next."""


@dataclass(frozen=True)
class Cost:
    """Cost of a turn: ``model_calls`` (network evaluations while painting), ``tokens`` of text written, seconds, and the
    rows ``scored`` to measure a verdict."""

    model_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    scored: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.model_calls + other.model_calls,
            self.tokens + other.tokens,
            round(self.seconds + other.seconds, 3),
            self.scored + other.scored,
        )


def seconds_since(began: float) -> float:
    """Seconds since ``began`` of the performance counter, to the millisecond."""
    return round(perf_counter() - began, 3)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Provenance of a turn. ``seed`` is the seed of the whole process, from which each stage derives its own;
    ``settings`` holds JSON values only; ``model`` names the checkpoint that made it."""

    author: Author = "model"
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    cost: Cost = Cost()
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a round: ``instruction`` says what to change, ``description`` the whole scene after the change.
    ``text`` is what the model reads back; ``problem`` says why a reply could not be parsed as it should."""

    instruction: str
    description: str = ""
    text: str = ""
    problem: str = ""
    origin: Origin = Origin()


@dataclass(frozen=True)
class Painting:
    picture: Picture
    origin: Origin = Origin()


@dataclass(frozen=True, kw_only=True)
class Critique:
    """The verdict on the last picture; ``correction`` is empty where it was accepted.

    ``margin`` is how far the model's verdict is from the other one: the difference of the log-probabilities of accepting
    and of correcting, less the dialect's threshold; None where it was not measured. ``unreadable``: the model gave neither
    a verdict nor a correction that can be painted, as ``problem`` says; nothing is repainted then.
    """

    text: str
    explanation: str
    correction: str = ""
    accepted: bool = True
    problem: str = ""
    margin: float | None = None
    unreadable: bool = False
    origin: Origin = Origin()

    @property
    def corrects(self) -> bool:
        """Whether there is something to repaint."""
        return bool(self.correction) and not (self.accepted or self.unreadable)


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """The close of a round: a repainted picture, or None where nothing was, and whether the work is done.

    ``rejected`` is a repainted picture that was not kept, because the model's verdict on it, ``repainted_margin``, was no
    better than on what it would have replaced. ``margin`` is that of the decision whether the work is done, as in
    :class:`Critique`.
    """

    picture: Picture | None = None
    ended: bool = False
    margin: float | None = None
    rejected: Picture | None = None
    repainted_margin: float | None = None
    problem: str = ""
    origin: Origin = Origin()


@dataclass(frozen=True)
class Round:
    """One round. Without a ``plan`` it looks at the last picture again, and paints a sketch only where there is none."""

    plan: Plan | None = None
    sketch: Painting | None = None
    critique: Critique | None = None
    refinement: Refinement | None = None

    @property
    def picture(self) -> Picture | None:
        """The round's last picture."""
        if self.refinement and self.refinement.picture:
            return self.refinement.picture
        return self.sketch.picture if self.sketch else None


@dataclass(frozen=True, kw_only=True)
class End:
    """The process ended outside a refinement: the model planned nothing more, or nothing that can be painted, as
    ``problem`` says; or a person stopped it."""

    problem: str = ""
    origin: Origin = Origin()


Turn = Plan | Painting | Critique | Refinement | End


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A prompt, a canvas of ``size`` (width, height) pixels, and the rounds so far.

    The ``with_…`` methods raise OutOfOrder where another stage comes next.
    """

    prompt: str
    size: tuple[int, int]
    start: Picture | None = None
    rounds: tuple[Round, ...] = ()
    end: End | None = None
    model: str = ""

    @property
    def ended(self) -> bool:
        refinement = self.rounds[-1].refinement if self.rounds else None
        return self.end is not None or (refinement is not None and refinement.ended)

    @property
    def current_round(self) -> Round | None:
        """The round in progress; None between rounds."""
        return self.rounds[-1] if self.rounds and self.rounds[-1].refinement is None else None

    @property
    def stage(self) -> Stage:
        """The stage that comes next."""
        if self.ended:
            return "ended"
        current = self.current_round
        if current is None:
            return "plan"
        if current.critique is not None:
            return "refine"
        return "sketch" if current.sketch is None and (current.plan or self.picture is None) else "inspect"

    @property
    def round_index(self) -> int:
        """The index, from 0, of the round in progress or, between rounds, of the next one."""
        return len(self.rounds) - 1 if self.current_round else len(self.rounds)

    @property
    def pictures(self) -> list[tuple[str, Picture]]:
        """Every picture in the order it was made, named ``start``, ``round1-sketch``, ``round1-refined`` …"""
        found = [("start", self.start)] if self.start else []
        for number, round_ in enumerate(self.rounds, 1):
            if round_.sketch:
                found.append((f"round{number}-sketch", round_.sketch.picture))
            if round_.refinement and round_.refinement.picture:
                found.append((f"round{number}-refined", round_.refinement.picture))
        return found

    @property
    def rejected(self) -> list[tuple[str, Picture]]:
        """Every repainted picture that was not kept, named ``round1-rejected`` …"""
        refined = ((number, round_.refinement) for number, round_ in enumerate(self.rounds, 1))
        return [(f"round{number}-rejected", each.rejected) for number, each in refined if each and each.rejected]

    @property
    def picture(self) -> Picture | None:
        """The last picture; None where nothing was painted yet."""
        return self.pictures[-1][1] if self.pictures else None

    @property
    def last_plan(self) -> Plan | None:
        """The plan of the last round that has one."""
        return next((round_.plan for round_ in reversed(self.rounds) if round_.plan), None)

    @property
    def picture_before_round(self) -> Picture | None:
        """The last picture made before the round in progress or, between rounds, before the next one."""
        done = self.rounds[: self.round_index]
        return next((round_.picture for round_ in reversed(done) if round_.picture), self.start)

    @property
    def turns(self) -> list[Turn]:
        turns = [turn for r in self.rounds for turn in (r.plan, r.sketch, r.critique, r.refinement) if turn]
        return [*turns, self.end] if self.end else list(turns)

    @property
    def cost(self) -> Cost:
        return sum((turn.origin.cost for turn in self.turns), Cost())

    @property
    def looks_again(self) -> bool:
        """Whether the round in progress has neither plan nor sketch: it looks at the last picture, unless a person gives
        another."""
        current = self.current_round
        return self.stage == "inspect" and current is not None and not (current.plan or current.sketch)

    def expect(self, stage: Stage) -> None:
        """Raise OutOfOrder unless ``stage`` comes next, or is the sketch of a round that :attr:`looks_again`."""
        if stage == "sketch" and self.looks_again:
            return
        if self.stage == "ended":
            raise OutOfOrder(f"cannot {stage}: the trajectory is finished")
        if self.stage != stage:
            raise OutOfOrder(
                f"cannot {stage} now: round {self.round_index + 1} of the trajectory expects {self.stage} next"
            )

    def with_plan(self, plan: Plan | None) -> Trajectory:
        """Begin a round; without a plan, it looks at the last picture again."""
        self.expect("plan")
        return replace(self, rounds=(*self.rounds, Round(plan)))

    def with_sketch(self, sketch: Painting) -> Trajectory:
        self.expect("sketch")
        return self._with_current(sketch=sketch)

    def with_critique(self, critique: Critique) -> Trajectory:
        self.expect("inspect")
        return self._with_current(critique=critique)

    def with_refinement(self, refinement: Refinement) -> Trajectory:
        self.expect("refine")
        return self._with_current(refinement=refinement)

    def with_end(self, end: End) -> Trajectory:
        """Finish here, at whatever stage the work is."""
        return self if self.ended else replace(self, end=end)

    def with_size(self, size: tuple[int, int]) -> Trajectory:
        """The same work on another canvas: what is painted from now on has ``size``; see :meth:`Profile.check_size`."""
        return replace(self, size=size)

    def with_picture(self, image: Image.Image | Picture) -> Trajectory:
        """Put ``image`` in the place of the last picture (where a sketch was accepted: after it), resampled to the canvas.

        Raises StrokesError where there is no picture yet.
        """
        picture = picture_from(image, self.size)
        for index in reversed(range(len(self.rounds))):
            round_ = self.rounds[index]
            if refined := round_.refinement:
                origin = replace(refined.origin, author="user")
                round_ = replace(round_, refinement=replace(refined, picture=picture, origin=origin))
            elif sketched := round_.sketch:
                round_ = replace(round_, sketch=Painting(picture, replace(sketched.origin, author="user")))
            else:
                continue
            return replace(self, rounds=(*self.rounds[:index], round_, *self.rounds[index + 1 :]))
        if self.start is None:
            raise StrokesError("there is no picture to replace yet: sketch first, or begin from an image")
        return replace(self, start=picture)

    def without_last_turn(self) -> Trajectory:
        """One turn back, to redo it; the trajectory itself where nothing was done yet."""
        if self.end:
            return replace(self, end=None)
        if not self.rounds:
            return self
        for name in ("refinement", "critique", "sketch"):
            if getattr(self.rounds[-1], name):
                return self._with_current(**{name: None})
        return replace(self, rounds=self.rounds[:-1])

    def _with_current(self, **turn: Any) -> Trajectory:
        return replace(self, rounds=(*self.rounds[:-1], replace(self.rounds[-1], **turn)))

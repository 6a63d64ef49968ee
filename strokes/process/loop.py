"""Rounds of plan, sketch, inspect and refine, until the model ends or the rounds are used up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import StrokesError
from . import stages
from .painter import Painter
from .settings import AUTO_PAINT, AUTO_TEXT, OnStep, OnText, PaintOverrides, TextOverrides
from .trajectory import Stage, Trajectory

MAX_ROUNDS = 32


@dataclass(frozen=True)
class Events:
    """Callbacks of a run; each may raise Cancelled.

    ``on_stage`` is called before a stage with its name and round index, ``on_turn`` after it with the trajectory so
    far, so that everything finished can be saved.
    """

    on_stage: Callable[[Stage, int], None] | None = None
    on_turn: Callable[[Trajectory], None] | None = None
    on_text: OnText | None = None
    on_step: OnStep | None = None


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """Overrides of the profile's settings, one for each stage; ``keep_best`` as in :class:`.stages.GivenRefinement`."""

    plan: TextOverrides = AUTO_TEXT
    sketch: PaintOverrides = AUTO_PAINT
    inspect: TextOverrides = AUTO_TEXT
    refine: PaintOverrides = AUTO_PAINT
    keep_best: bool = False


# A sketched trajectory → the same with a critique.
Inspect = Callable[[Trajectory], Trajectory]


def run(
    painter: Painter,
    trajectory: Trajectory,
    rounds: int,
    *,
    seed: int = 0,
    settings: StageSettings = StageSettings(),
    inspect: Inspect | None = None,
    events: Events = Events(),
) -> Trajectory:
    """Run up to ``rounds`` rounds (1 to 32) from wherever the trajectory is; a round in progress is finished first and
    counts as one. Stops early when the trajectory ends.

    ``inspect`` replaces the model's inspection. Raises StrokesError for another number of rounds.
    """
    check_rounds(rounds)
    text, step = events.on_text, events.on_step
    while rounds and not trajectory.ended:
        stage = trajectory.stage
        if events.on_stage:
            events.on_stage(stage, trajectory.round_index)
        if stage == "plan":
            trajectory = stages.plan(painter, trajectory, seed=seed, settings=settings.plan, on_text=text)
        elif stage == "sketch":
            trajectory = stages.sketch(painter, trajectory, seed=seed, settings=settings.sketch, on_step=step)
        elif stage == "inspect" and inspect:
            trajectory = inspect(trajectory)
        elif stage == "inspect":
            trajectory = stages.inspect(painter, trajectory, seed=seed, settings=settings.inspect, on_text=text)
        else:
            given = stages.GivenRefinement(keep_best=settings.keep_best)
            trajectory = stages.refine(
                painter, trajectory, seed=seed, settings=settings.refine, given=given, on_step=step
            )
            rounds -= 1
        if events.on_turn:
            events.on_turn(trajectory)
    return trajectory


def check_rounds(rounds: int) -> None:
    """Raise StrokesError unless ``rounds`` is from 1 to 32."""
    if not 1 <= rounds <= MAX_ROUNDS:
        raise StrokesError(f"{rounds} rounds: choose from 1 to {MAX_ROUNDS}")

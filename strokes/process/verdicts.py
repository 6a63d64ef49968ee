"""The model's verdict on a picture, beside an inspection: of a model that cannot see, and on a repainted picture."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from .dialects.protocol import Verdict
from .dialects.session import StageSession
from .painter import Painter
from .trajectory import Cost, Painting, Refinement, Trajectory, seconds_since


def best_of_two(painter: Painter, trajectory: Trajectory, done: Refinement) -> Refinement:
    """A refinement that keeps its picture only where the model's verdict on it is better than on the one before, with what
    the verdicts cost.

    Without a verdict on the new picture the one before stays; without one on that, the new one has to be accepted. A model
    that cannot see keeps what it paints.
    """
    if not painter.profile.sees:
        return done
    current = trajectory.current_round
    assert current and current.critique and done.picture
    before, cost, seed = current.critique.margin, done.origin.cost, done.origin.seed or 0
    began = perf_counter()
    if before is None:  # a person's critique
        before, spent = _margin_of(painter, _before_inspection(trajectory, current.sketch), seed)
        cost += spent
    repainted = Painting(done.picture, done.origin)
    after, spent = _margin_of(painter, _before_inspection(trajectory, repainted), seed)
    origin = replace(done.origin, cost=cost + spent + Cost(seconds=seconds_since(began)))
    if after is not None and (after >= 0 if before is None else after > before):
        return replace(done, repainted_margin=after, origin=origin)
    return replace(done, picture=None, rejected=done.picture, repainted_margin=after, origin=origin)


def _before_inspection(trajectory: Trajectory, sketch: Painting | None) -> Trajectory:
    """The trajectory as it is before the inspection of ``sketch`` in the round in progress."""
    current = trajectory.rounds[-1]
    return replace(trajectory, rounds=(*trajectory.rounds[:-1], replace(current, sketch=sketch, critique=None)))


def _margin_of(painter: Painter, trajectory: Trajectory, seed: int) -> tuple[float | None, Cost]:
    """The margin of the model's verdict on the last picture, and what it cost."""
    session = StageSession(painter, trajectory, "inspect", seed)
    return painter.dialect.verdict(session).margin, session.cost


def unseen(painter: Painter) -> Verdict:
    """The verdict of a model that was trained without vision: none."""
    return Verdict(problem=f"{painter.profile.name} has no vision model (vit_model.*) and cannot look at a picture")

"""The four stages of a round. Each takes a trajectory and returns a new one; a finished one passes through unchanged.

``seed`` is the seed of the whole process: every stage derives its own from (seed, round, stage), so round k is the same
for any number of rounds. ``settings`` are what a caller gives over the painter's profile, resolved here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import StrokesError
from .dialects.protocol import CritiqueReply, Dialect, PictureSegment, Segment, TextSegment
from .dialects.session import StageSession, stage_seed, states
from .painter import Painter
from .pictures import Picture, picture_from
from .settings import (
    AUTO_PAINT,
    AUTO_TEXT,
    OnStep,
    OnText,
    Painted,
    PaintOverrides,
    PaintSettings,
    Preserve,
    State,
    TextOverrides,
    TextSettings,
)
from .trajectory import (
    Cost,
    Critique,
    End,
    Origin,
    Painting,
    Plan,
    Refinement,
    Stage,
    Trajectory,
    seconds_since,
)
from .verdicts import best_of_two, unseen


def begin(
    painter: Painter,
    prompt: str,
    size: tuple[int, int] | None = None,
    image: Image.Image | Picture | None = None,
) -> Trajectory:
    """A trajectory with no rounds yet.

    ``size`` is (width, height) in pixels; None takes the image's proportions or the profile's size. Raises StrokesError
    for an empty or unsayable prompt and for a canvas the model cannot paint.
    """
    prompt = prompt.strip()
    if not prompt:
        raise StrokesError("the prompt is empty: say what to paint")
    profile = painter.profile
    painter.check_text(painter.dialect.opening(prompt))
    if size is None:
        size = profile.size_for(image) if image else profile.size
    profile.check_size(size)
    start = picture_from(image, size) if image else None
    return Trajectory(prompt=prompt, size=size, start=start, model=profile.name)


def plan(
    painter: Painter,
    trajectory: Trajectory,
    *,
    seed: int = 0,
    settings: TextOverrides = AUTO_TEXT,
    instruction: str | None = None,
    description: str | None = None,
    on_text: OnText | None = None,
) -> Trajectory:
    """Say what to change next.

    A given ``instruction`` or ``description`` overrules the model's; an instruction alone lets the model complete the
    description, where its dialect has one. Where the dialect has no plan in this round, the round begins without one. A
    model that plans nothing more ends the trajectory, but not before there is a picture: then the prompt is painted.
    """
    if trajectory.ended:
        return trajectory
    dialect = _starting(painter, trajectory, "plan")
    if not dialect.plans(trajectory):
        given = instruction or description
        return trajectory.with_plan(
            _given_plan(painter, given, description or "" if instruction else "") if given else None
        )
    if instruction and (description is not None or not dialect.describes):
        return trajectory.with_plan(_given_plan(painter, instruction, description or ""))
    began = perf_counter()
    session = StageSession(painter, trajectory, "plan", seed, settings, on_text)
    reply = dialect.plan(session, instruction or "")
    origin = _written_by(session, began)
    if instruction or description:
        origin = replace(origin, author="user")
    if not (reply.instruction or description):
        problem = reply.problem or ("" if reply.ends else "the model wrote no plan")
        if trajectory.picture:
            return trajectory.with_end(End(problem=problem, origin=origin))
        ended = "the model planned nothing before there was a picture"
        whole = _given_plan(painter, trajectory.prompt, trajectory.prompt if dialect.describes else "")
        problem = f"{problem or ended}: the prompt is painted"
        return trajectory.with_plan(replace(whole, problem=problem, origin=origin))
    said = Plan(
        instruction=reply.instruction,
        description=reply.description,
        text=reply.text,
        problem=reply.problem,
        origin=origin,
    )
    return trajectory.with_plan(_described(painter, said, description) if description else said)


def _given_plan(painter: Painter, instruction: str, description: str) -> Plan:
    """A person's plan, for which the model is not asked."""
    text = painter.dialect.write_plan(instruction, description)
    painter.check_text(text)
    return Plan(
        instruction=instruction.strip(), description=description.strip(), text=text, origin=Origin(author="user")
    )


def _described(painter: Painter, said: Plan, description: str) -> Plan:
    """The model's plan with a person's description."""
    # Where the model said nothing that can be read, the description alone says what to paint.
    instruction = said.instruction or description.strip()
    text = painter.dialect.write_plan(instruction, description)
    painter.check_text(text)
    return replace(said, instruction=instruction, description=description.strip(), text=text)


def sketch(
    painter: Painter,
    trajectory: Trajectory,
    *,
    seed: int = 0,
    settings: PaintOverrides = AUTO_PAINT,
    image: Image.Image | Picture | None = None,
    on_step: OnStep | None = None,
) -> Trajectory:
    """Paint the plan. A given ``image`` is taken instead, resampled to the canvas.

    A round that looks at the last picture again is left as it is, unless an image is given.
    """
    if trajectory.ended or (image is None and trajectory.looks_again):
        return trajectory
    _starting(painter, trajectory, "sketch")
    if image is not None:
        return trajectory.with_sketch(Painting(picture_from(image, trajectory.size), Origin(author="user")))
    painted, origin = _paint(painter, trajectory, "sketch", seed, settings, on_step)
    return trajectory.with_sketch(Painting(painted.picture, origin))


@dataclass(frozen=True)
class GivenCritique:
    """A person's critique: "accept", or "correct" with a ``correction``, overrules the model; "model" gives nothing."""

    verdict: Literal["model", "accept", "correct"] = "model"
    critique: str = ""
    correction: str = ""

    @property
    def problem(self) -> str:
        """Why verdict and texts do not go together; empty where they do."""
        if self.verdict not in ("model", "accept", "correct"):
            return f"unknown verdict {self.verdict}: choose model, accept or correct"
        if self.correction.strip() and self.verdict != "correct":
            return f'a correction was given, but the verdict is "{self.verdict}": set it to "correct"'
        if self.verdict == "correct" and not self.correction.strip():
            return 'the verdict is "correct", but there is no correction: say what to repaint'
        if self.critique.strip() and self.verdict == "model":
            return 'a critique was given, but the verdict is "model": set it to "accept" or "correct"'
        return ""


def inspect(
    painter: Painter,
    trajectory: Trajectory,
    *,
    seed: int = 0,
    settings: TextOverrides = AUTO_TEXT,
    given: GivenCritique = GivenCritique(),
    on_text: OnText | None = None,
) -> Trajectory:
    """Look at the last picture: is the step wrong for the prompt, or the picture for the step?

    A person's verdict overrules the model and costs nothing. Raises StrokesError where it and its texts do not go together.
    """
    if trajectory.ended:
        return trajectory
    dialect = _starting(painter, trajectory, "inspect")
    if given.problem:
        raise StrokesError(given.problem)
    if given.verdict != "model":
        critique, correction = given.critique.strip(), given.correction.strip()
        text = dialect.write_critique(critique, correction, trajectory)
        painter.check_text(text)
        accepted = given.verdict == "accept"
        return trajectory.with_critique(
            Critique(
                text=text, explanation=critique, correction=correction, accepted=accepted, origin=Origin(author="user")
            )
        )
    began = perf_counter()
    session = StageSession(painter, trajectory, "inspect", seed, settings, on_text)
    reply = dialect.inspect(session) if painter.profile.sees else CritiqueReply(verdict=unseen(painter))
    return trajectory.with_critique(
        Critique(
            text=reply.text,
            explanation=reply.explanation,
            correction=reply.correction,
            accepted=reply.verdict.yes,
            problem=reply.problem or reply.verdict.problem,
            margin=reply.verdict.margin,
            unreadable=reply.unreadable,
            origin=_written_by(session, began),
        )
    )


@dataclass(frozen=True, kw_only=True)
class GivenRefinement:
    """A person's say in a refinement: an ``image`` in place of the model's picture, ``finished`` in place of its decision;
    None leaves it to the model. With ``keep_best`` a repainted picture is kept only where the model's verdict on it is
    better than on the picture that it would replace."""

    image: Image.Image | Picture | None = None
    finished: bool | None = None
    keep_best: bool = False


def refine(
    painter: Painter,
    trajectory: Trajectory,
    *,
    seed: int = 0,
    settings: PaintOverrides = AUTO_PAINT,
    given: GivenRefinement = GivenRefinement(),
    mask: np.ndarray | None = None,
    on_step: OnStep | None = None,
) -> Trajectory:
    """Repaint what the inspection corrected, nothing where it accepted or could not be read, and close the round: finished
    or another plan.

    A ``mask`` of any size, float ``[rows, columns]``, lies over the whole canvas: only tokens that it touches are
    repainted, the latents of the others stay bit for bit. Raises StrokesError where it touches none.
    """
    if trajectory.ended:
        return trajectory
    _starting(painter, trajectory, "refine")
    current = trajectory.current_round
    assert current and current.critique
    preserve = None if mask is None else _preserve(painter, trajectory, mask)
    if given.image is not None:
        done = Refinement(picture=picture_from(given.image, trajectory.size), origin=Origin(author="user"))
    elif not current.critique.corrects:
        done = Refinement(origin=Origin(author="model", seed=seed, model=painter.profile.name))
    else:
        painted, origin = _paint(painter, trajectory, "refine", seed, settings, on_step, preserve)
        done = Refinement(picture=painted.picture, origin=origin)
        if given.keep_best:
            done = best_of_two(painter, trajectory, done)
    if given.finished is not None:
        return trajectory.with_refinement(replace(done, ended=given.finished))
    return trajectory.with_refinement(_decide_end(painter, trajectory, done))


def _preserve(painter: Painter, trajectory: Trajectory, mask: np.ndarray) -> Preserve:
    """The last picture's tokens that a mask does not touch."""
    multiple, picture = painter.profile.multiple, trajectory.picture
    assert picture
    width, height = trajectory.size
    return Preserve(picture, tokens_touched(mask, (height // multiple, width // multiple)))


def _decide_end(painter: Painter, trajectory: Trajectory, done: Refinement) -> Refinement:
    """The refinement of the round in progress with the model's decision whether the work is finished, and its cost."""
    began = perf_counter()
    session = StageSession(painter, trajectory.with_refinement(done), "end")
    verdict = painter.dialect.end(session) if painter.profile.sees else unseen(painter)
    cost = done.origin.cost + session.cost + Cost(seconds=seconds_since(began))
    origin = replace(done.origin, cost=cost)
    return replace(done, ended=verdict.yes, margin=verdict.margin, problem=verdict.problem, origin=origin)


def tokens_touched(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Which tokens of a (rows, columns) grid a mask ``[h, w]`` laid over it touches with any value above 0.

    Raises StrokesError where that is none.
    """

    def overlap(tokens: int, pixels: int) -> np.ndarray:
        token, pixel = np.arange(tokens)[:, None], np.arange(pixels)[None]
        return (token * pixels < (pixel + 1) * tokens) & (pixel * tokens < (token + 1) * pixels)

    painted = (mask > 0).astype(np.int64)
    touched = overlap(grid[0], mask.shape[0]) @ painted @ overlap(grid[1], mask.shape[1]).T > 0
    if not touched.any():
        raise StrokesError("the mask is empty: paint it where the picture may change, or disconnect it")
    return touched


def _starting(painter: Painter, trajectory: Trajectory, stage: Stage) -> Dialect:
    """The painter's dialect at the start of a stage.

    Raises StrokesError where another stage comes next, and for a canvas or, of another model's trajectory, a prompt that
    the painter cannot take.
    """
    trajectory.expect(stage)
    dialect = painter.dialect
    painter.profile.check_size(trajectory.size)
    if trajectory.model != painter.profile.name:
        painter.check_text(dialect.opening(trajectory.prompt))
    return dialect


def guidance_branches(painter: Painter, segments: Sequence[Segment]) -> tuple[State, State, State]:
    """States of the three guidance branches: the main one after all segments, the text-free one as the dialect has it, and
    the image-free one with all texts and no picture."""
    texts = [segment for segment in segments if isinstance(segment, TextSegment)]
    seen = (segments, painter.dialect.text_free(segments), texts)
    main, text_free, image_free = (states(painter, each)[-1] for each in seen)
    return main, text_free, image_free


def _paint(
    painter: Painter,
    trajectory: Trajectory,
    stage: Literal["sketch", "refine"],
    seed: int,
    settings: PaintOverrides,
    on_step: OnStep | None,
    preserve: Preserve | None = None,
) -> tuple[Painted, Origin]:
    """What the model paints at a stage: an edit where it sees a picture, else a first one."""
    began = perf_counter()
    segments = painter.dialect.segments(trajectory, stage)
    edits = any(isinstance(segment, PictureSegment) for segment in segments)
    resolved = settings.over(painter.profile.edit if edits else painter.profile.first)
    derived_seed = stage_seed(seed, trajectory.round_index, stage)
    painted = painter.paint_picture(
        *guidance_branches(painter, segments), trajectory.size, resolved, derived_seed, on_step, preserve
    )
    return painted, _origin(painter, seed, resolved, Cost(painted.calls, seconds=seconds_since(began)))


def _written_by(session: StageSession, began: float) -> Origin:
    """The origin of a turn that a session wrote, since ``began`` of the performance counter."""
    return _origin(session.painter, session.seed, session.settings, session.cost + Cost(seconds=seconds_since(began)))


def _origin(painter: Painter, seed: int, settings: TextSettings | PaintSettings, cost: Cost) -> Origin:
    return Origin(author="model", seed=seed, settings=_json(settings), cost=cost, model=painter.profile.name)


def _json(settings: TextSettings | PaintSettings) -> dict[str, Any]:
    """Settings as JSON values, as they come back from a file: tuples become lists."""
    return json.loads(json.dumps(asdict(settings)))

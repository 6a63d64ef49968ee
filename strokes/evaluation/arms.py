"""The arms of a comparison: ways of painting a prompt with the same weights and seed. Each knows the painter only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from ..process import loop, stages
from ..process.oneshot import text_to_image
from ..process.painter import Painter
from ..process.trajectory import Cost, Trajectory
from ..shapes.language import WHOLE
from .shapes.prompts import Prompt


@dataclass(frozen=True)
class Task:
    """A prompt to paint with one ``seed`` of the evaluation; ``painting_seed`` is that of this painting."""

    prompt: Prompt
    seed: int
    rounds: int

    @property
    def painting_seed(self) -> int:
        return stages.stage_seed(self.seed, self.prompt.line, "prompt")

    @property
    def key(self) -> tuple[int, int]:
        return self.prompt.line, self.seed


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an arm made of a task: the last picture, how many were painted and what they cost, and the process behind it,
    where there is one. ``own_words`` as in :class:`Trial`."""

    image: Image.Image | None
    pictures: int
    cost: Cost
    process: Trajectory | None = None
    own_words: int = 0


Arm = Callable[[Painter, Task], Outcome]
Inspect = Callable[[Trajectory], Trajectory]


def one_shot(painter: Painter, task: Task) -> Outcome:
    painted = text_to_image(painter, task.prompt.text, seed=task.painting_seed)
    return Outcome(painted.picture.image, 1, Cost(painted.calls))


def plan_only(painter: Painter, task: Task) -> Outcome:
    """The model describes the whole scene in words, then paints it at once."""
    planned = stages.plan(painter, stages.begin(painter, task.prompt.text), instruction=WHOLE, seed=task.painting_seed)
    return outcome_of(stages.sketch(painter, planned, seed=task.painting_seed))


def process(painter: Painter, task: Task) -> Outcome:
    begun = stages.begin(painter, task.prompt.text)
    return outcome_of(loop.run(painter, begun, task.rounds, seed=task.painting_seed))


def no_inspect(painter: Painter, task: Task) -> Outcome:
    return run_with(painter, task, lambda sketched: stages.inspect(painter, sketched, verdict="accept"))


def run_with(painter: Painter, task: Task, inspect: Inspect) -> Outcome:
    """The loop with another inspection."""
    seed, trajectory = task.painting_seed, stages.begin(painter, task.prompt.text)
    for _ in range(task.rounds):
        trajectory = stages.plan(painter, trajectory, seed=seed)
        if trajectory.ended:
            break
        trajectory = inspect(stages.sketch(painter, trajectory, seed=seed))
        trajectory = stages.refine(painter, trajectory, seed=seed)
    return outcome_of(trajectory)


def outcome_of(trajectory: Trajectory) -> Outcome:
    image = trajectory.picture.image if trajectory.picture else None
    return Outcome(image, len(trajectory.pictures), trajectory.cost, trajectory)

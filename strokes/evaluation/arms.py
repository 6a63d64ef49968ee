"""Arms of a comparison, in the sense of a trial's: ways of painting a prompt with the same weights and seed.

Each knows the painter only, and no benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from ..process import loop, stages
from ..process.oneshot import text_to_image
from ..process.painter import Painter
from ..process.trajectory import Cost, Trajectory


@dataclass(frozen=True)
class Task:
    """A prompt to paint: its text and ``line`` in the benchmark's file, a ``seed`` of the evaluation, and the rounds that
    a process may take."""

    text: str
    line: int
    seed: int
    rounds: int

    @property
    def painting_seed(self) -> int:
        """The seed of this painting, the same for all arms."""
        return stages.stage_seed(self.seed, self.line, "prompt")

    @property
    def key(self) -> tuple[int, int]:
        return self.line, self.seed


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """Result of an arm on a task: the last picture (None where nothing was painted), the number of pictures painted,
    and their cost.

    ``process`` is the trajectory behind it, where there is one. ``own_words`` counts the critiques that an arm was to
    replace and could not.
    """

    image: Image.Image | None
    pictures: int
    cost: Cost
    process: Trajectory | None = None
    own_words: int = 0


Arm = Callable[[Painter, Task], Outcome]


def outcome_of(trajectory: Trajectory, own_words: int = 0) -> Outcome:
    """The outcome of a process."""
    return Outcome(
        image=trajectory.picture.image if trajectory.picture else None,
        pictures=len(trajectory.pictures),
        cost=trajectory.cost,
        process=trajectory,
        own_words=own_words,
    )


def one_shot(painter: Painter, task: Task) -> Outcome:
    """The prompt painted at once."""
    painted = text_to_image(painter, task.text, seed=task.painting_seed)
    return Outcome(image=painted.picture.image, pictures=1, cost=Cost(painted.calls))


def plan_only(instruction: str) -> Arm:
    """The model describes the whole scene in words, as the completion of ``instruction``, then paints it at once."""

    def paint(painter: Painter, task: Task) -> Outcome:
        begun, seed = stages.begin(painter, task.text), task.painting_seed
        planned = stages.plan(painter, begun, instruction=instruction, seed=seed)
        return outcome_of(stages.sketch(painter, planned, seed=seed))

    return paint


def process(painter: Painter, task: Task, inspect: loop.Inspect | None = None) -> Outcome:
    """The whole process, with the model's own inspection or another."""
    begun = stages.begin(painter, task.text)
    return outcome_of(loop.run(painter, begun, task.rounds, seed=task.painting_seed, inspect=inspect))


def no_inspect(painter: Painter, task: Task) -> Outcome:
    """The process with every sketch accepted."""
    return process(
        painter, task, lambda sketched: stages.inspect(painter, sketched, given=stages.GivenCritique("accept"))
    )

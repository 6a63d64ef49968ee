"""The arms of the shapes benchmark: their names, and the implementation of those that need this world or its trials.

Only the oracle is given the rule-based critic's verdicts while it paints: the upper bound of a perfect inspector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...errors import StrokesError
from ...process import stages
from ...process.oneshot import text_to_image
from ...process.painter import Painter
from ...process.pictures import Picture
from ...process.stages import GivenCritique
from ...process.trajectory import Cost, Trajectory
from ...shapes.checker import detect
from ...shapes.critic import judge
from ...shapes.language import WHOLE, describe, read_prompt
from ..arms import Arm, Outcome, Task, process
from .trials import Trial

ARMS = {
    "one-shot": "one-shot",
    "best-of-k": "one-shot, equal calls",
    "plan-only": "plan only",
    "no-inspect": "no inspect",
    "process": "full process",
    "oracle": "oracle (upper bound)",
    "shuffled": "shuffled critiques",
}


def best_of_k(calls: Mapping[tuple[int, int], int]) -> Arm:
    """One-shot pictures until the model's own inspector accepts one, or as many model calls are spent as ``calls`` says
    the process spent on the same (line, seed); the picture under way is finished. Where none is accepted: the first."""

    def paint(painter: Painter, task: Task) -> Outcome:
        first, cost, number = None, Cost(), 0
        while number == 0 or cost.model_calls < calls[task.key]:
            seed = task.painting_seed if number == 0 else stages.stage_seed(task.painting_seed, number, "candidate")
            painted = text_to_image(painter, task.text, seed=seed)
            first, number = first or painted.picture.image, number + 1
            inspected = _inspect_whole(painter, task, painted.picture, seed)
            cost += Cost(painted.calls) + inspected.cost
            critique = inspected.rounds[-1].critique
            if critique and critique.accepted:
                return Outcome(image=painted.picture.image, pictures=number, cost=cost)
        return Outcome(image=first, pictures=number, cost=cost)

    return paint


def _inspect_whole(painter: Painter, task: Task, picture: Picture, seed: int) -> Trajectory:
    """The model's inspection of a picture as the sketch of a process's only round."""
    begun = stages.begin(painter, task.text)
    planned = stages.plan(painter, begun, instruction=WHOLE, description=describe(read_prompt(task.text)))
    return stages.inspect(painter, stages.sketch(painter, planned, image=picture), seed=seed)


def oracle(painter: Painter, task: Task) -> Outcome:
    """The process with the rule-based critic's critiques; where a plan cannot be read, the model's own inspection."""

    def inspect(sketched: Trajectory) -> Trajectory:
        current = sketched.current_round
        if not (current and current.plan and current.sketch):
            return stages.inspect(painter, sketched, seed=task.painting_seed)
        try:
            planned = read_prompt(current.plan.description)
        except StrokesError:
            return stages.inspect(painter, sketched, seed=task.painting_seed)
        before = sketched.picture_before_round
        canvas = detect(before.image) if before else []
        truth = judge(read_prompt(task.text), planned, canvas, detect(current.sketch.picture.image))
        if not truth.correction:
            return stages.inspect(painter, sketched, given=GivenCritique("accept", truth.explanation))
        given = GivenCritique("correct", truth.explanation, truth.correction)
        return stages.inspect(painter, sketched, given=given)

    return process(painter, task, inspect)


def shuffled(trials: Sequence[Trial]) -> Arm:
    """The process with the model's own verdicts, where each rejection says what another prompt's process said.

    ``trials`` are those of the process.
    """
    said = [(t.line, s.critique, s.correction) for t in trials for s in t.steps if s.correction]

    def paint(painter: Painter, task: Task) -> Outcome:
        others = [(critique, correction) for line, critique, correction in said if line != task.line]
        own_words = 0

        def inspect(sketched: Trajectory) -> Trajectory:
            nonlocal own_words
            own = stages.inspect(painter, sketched, seed=task.painting_seed)
            critique = own.rounds[-1].critique
            assert critique
            if not critique.corrects:
                return own
            if not others:
                own_words += 1
                return own
            seed = stages.stage_seed(task.painting_seed, own.round_index, "shuffled")
            words, correction = others[seed % len(others)]
            corrected = stages.inspect(painter, sketched, given=GivenCritique("correct", words, correction))
            other = corrected.rounds[-1].critique
            assert other
            return sketched.with_critique(replace(other, origin=critique.origin))

        return replace(process(painter, task, inspect), own_words=own_words)

    return paint

"""What is measured of trials, each a ratio of two counts, and bootstrap intervals over prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..statistics import Estimate, _estimate, ratios
from .trials import Drift, JudgedRound, Trial

# (numerator, denominator) of a trial.
Count = Callable[[Trial], tuple[float, float]]


def _each(count: Callable[[Trial], float]) -> Count:
    return lambda trial: (count(trial), 1)


def _of_steps(
    trial: Trial, among: Callable[[JudgedRound], bool], hit: Callable[[JudgedRound], object]
) -> tuple[float, float]:
    """Among judged rounds: how many of those are a hit."""
    chosen = [s for s in trial.steps if s.right is not None and among(s)]
    return sum(bool(hit(s)) for s in chosen), len(chosen)


def _steps(among: Callable[[JudgedRound], bool], hit: Callable[[JudgedRound], object]) -> Count:
    return partial(_of_steps, among=among, hit=hit)


def _keeps(drift: Callable[[JudgedRound], Drift]) -> Count:
    return lambda trial: (sum(drift(s).still for s in trial.steps), sum(drift(s).objects for s in trial.steps))


def _shift(drift: Callable[[JudgedRound], Drift]) -> Count:
    return lambda trial: (sum(drift(s).shift for s in trial.steps), sum(drift(s).still for s in trial.steps))


def _against(steps: Callable[[Trial], int]) -> Count:
    """Pictures painted, and needed: one a step, and one more for every sketch that the checker calls wrong."""

    def count(trial: Trial) -> tuple[float, float]:
        errors = sum(s.right is False for s in trial.steps)
        return (trial.pictures, steps(trial) + errors) if trial.steps else (0, 0)

    return count


def _fixed(step: JudgedRound) -> bool:
    return step.right is False and step.refined is True


def _broken(step: JudgedRound) -> bool:
    return step.right is True and step.refined is False


def _inspector(state: str, among: Callable[[JudgedRound], bool]) -> dict[str, Count]:
    """Rejecting is the positive answer: precision is the share of rejected sketches that are wrong, recall the share of
    wrong ones that are rejected. Always accepting would be as accurate as sketches are right."""
    return {
        f"precision{state}": _steps(lambda s: among(s) and not s.accepted, lambda s: not s.right),
        f"recall{state}": _steps(lambda s: among(s) and not s.right, lambda s: not s.accepted),
        f"right accepted{state}": _steps(lambda s: among(s) and bool(s.right), lambda s: s.accepted),
        f"accuracy{state}": _steps(among, lambda s: s.accepted == s.right),
        f"always accepting{state}": _steps(among, lambda s: s.right),
    }


STATES = ("", ", incomplete", ", complete")
MEASURES: dict[str, Count] = {
    "exact match": _each(lambda t: t.right),
    "pictures": _each(lambda t: t.pictures),
    "model calls": _each(lambda t: t.cost.model_calls),
    "tokens": _each(lambda t: t.cost.tokens),
    "seconds": _each(lambda t: t.cost.seconds),
    "ended by itself": lambda t: (t.ended is True, t.ended is not None),
    "pictures / needed": _against(lambda t: len(t.steps)),
    "pictures / least": _against(lambda t: t.objects),
    **_inspector(STATES[0], lambda s: True),
    **_inspector(STATES[1], lambda s: not s.complete),
    **_inspector(STATES[2], lambda s: s.complete),
    "fix rate": _steps(lambda s: not s.right and s.refined is not None, _fixed),
    "break rate": _steps(lambda s: bool(s.right) and s.refined is not None, _broken),
    "fixes / break": lambda t: (sum(map(_fixed, t.steps)), sum(map(_broken, t.steps))),
    "step keeps": _keeps(lambda s: s.drift),
    "step shift": _shift(lambda s: s.drift),
    "refinement keeps": _keeps(lambda s: s.refined_drift),
    "refinement shift": _shift(lambda s: s.refined_drift),
}
NAMES = (*MEASURES, *(f"balanced accuracy{state}" for state in STATES))


def counts(trials: Sequence[Trial], lines: Sequence[int]) -> np.ndarray:
    """Numerators and denominators ``[prompts, measures, 2]``, all seeds of a prompt together."""
    row = {line: i for i, line in enumerate(lines)}
    table = np.zeros((len(lines), len(MEASURES), 2))
    for trial in trials:
        table[row[trial.line]] += [count(trial) for count in MEASURES.values()]
    return table


def estimates(table: np.ndarray) -> dict[str, Estimate]:
    """Every measure of the prompts in ``table``, as :func:`counts` makes it."""
    of = dict(zip(MEASURES, table.sum(0)[:, 1].astype(int).tolist(), strict=True))
    drawn = dict(zip(MEASURES, ratios(table).T, strict=True))
    for state in STATES:
        recall, specificity = f"recall{state}", f"right accepted{state}"
        drawn[f"balanced accuracy{state}"] = (drawn[recall] + drawn[specificity]) / 2
        of[f"balanced accuracy{state}"] = of[recall] + of[specificity] if of[recall] and of[specificity] else 0
    return {name: _estimate(drawn[name], of[name]) for name in NAMES}


def difference(table: np.ndarray, other: np.ndarray, measure: str = "exact match") -> Estimate:
    """How much more of a measure one arm has than another on the same prompts, by paired resampling."""
    at = list(MEASURES).index(measure)
    pair = ratios(np.stack([table[:, at], other[:, at]], 1))
    return _estimate(pair[:, 0] - pair[:, 1], int(table[:, at, 1].sum()))

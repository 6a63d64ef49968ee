"""The measures of the shapes benchmark, each a ratio of two counts over trials, with bootstrap intervals over prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..statistics import Estimate, estimate, ratios
from .trials import Drift, JudgedRound, Trial

# (numerator, denominator) of a trial.
Count = Callable[[Trial], tuple[float, float]]


def _each(count: Callable[[Trial], float]) -> Count:
    """The mean of a number over trials."""
    return lambda trial: (count(trial), 1)


def _share(among: Callable[[JudgedRound], bool], hit: Callable[[JudgedRound], bool | None]) -> Count:
    """The share of hits among the rounds that could be judged and that ``among`` selects."""

    def count(trial: Trial) -> tuple[float, float]:
        selected = [r for r in trial.steps if r.right is not None and among(r)]
        return sum(bool(hit(r)) for r in selected), len(selected)

    return count


def _keeps(drift: Callable[[JudgedRound], Drift]) -> Count:
    """The share of untouched objects that are still there."""
    return lambda trial: (sum(drift(s).still for s in trial.steps), sum(drift(s).objects for s in trial.steps))


def _shift(drift: Callable[[JudgedRound], Drift]) -> Count:
    """The mean distance in pixels by which the untouched objects that are still there moved."""
    return lambda trial: (sum(drift(s).shift for s in trial.steps), sum(drift(s).still for s in trial.steps))


def _against(steps: Callable[[Trial], int]) -> Count:
    """Pictures painted per picture needed: one a step, and one more for every sketch that is wrong."""

    def count(trial: Trial) -> tuple[float, float]:
        errors = sum(s.right is False for s in trial.steps)
        return (trial.pictures, steps(trial) + errors) if trial.steps else (0, 0)

    return count


def _inspector(state: str, among: Callable[[JudgedRound], bool]) -> dict[str, Count]:
    """The inspector as a classifier of sketches, with rejecting as the positive answer: precision is the share of rejected
    sketches that are wrong, recall the share of wrong sketches that are rejected. "always accepting" is the accuracy of
    an inspector that rejects none."""
    return {
        f"precision{state}": _share(lambda r: among(r) and not r.accepted, lambda r: not r.right),
        f"recall{state}": _share(lambda r: among(r) and not r.right, lambda r: not r.accepted),
        f"right accepted{state}": _share(lambda r: among(r) and bool(r.right), lambda r: r.accepted),
        f"accuracy{state}": _share(among, lambda r: r.accepted == r.right),
        f"always accepting{state}": _share(among, lambda r: r.right),
    }


FIXES = "fixes / break"
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
    **_inspector(STATES[0], lambda r: True),
    **_inspector(STATES[1], lambda r: not r.complete),
    **_inspector(STATES[2], lambda r: r.complete),
    "fix rate": _share(lambda r: not r.right and r.refined is not None, lambda r: r.fixed),
    "break rate": _share(lambda r: bool(r.right) and r.refined is not None, lambda r: r.broken),
    FIXES: lambda t: (sum(r.fixed for r in t.steps), sum(r.broken for r in t.steps)),
    "step keeps": _keeps(lambda r: r.drift),
    "step shift": _shift(lambda r: r.drift),
    "refinement keeps": _keeps(lambda r: r.refined_drift),
    "refinement shift": _shift(lambda r: r.refined_drift),
}
NAMES = (*MEASURES, *(f"balanced accuracy{state}" for state in STATES))


def counts(trials: Sequence[Trial], lines: Sequence[int]) -> np.ndarray:
    """Numerators and denominators ``[prompts, measures, 2]``, each the sum over all trials of a prompt."""
    row = {line: i for i, line in enumerate(lines)}
    table = np.zeros((len(lines), len(MEASURES), 2))
    for trial in trials:
        table[row[trial.line]] += [count(trial) for count in MEASURES.values()]
    return table


def estimates(table: np.ndarray) -> dict[str, Estimate]:
    """The estimate of every measure over the prompts of ``table``, which is rows of :func:`counts`."""
    of = dict(zip(MEASURES, table.sum(0)[:, 1].astype(int).tolist(), strict=True))
    drawn = dict(zip(MEASURES, ratios(table).T, strict=True))
    for state in STATES:
        recall, specificity = f"recall{state}", f"right accepted{state}"
        drawn[f"balanced accuracy{state}"] = (drawn[recall] + drawn[specificity]) / 2
        of[f"balanced accuracy{state}"] = of[recall] + of[specificity] if of[recall] and of[specificity] else 0
    return {name: estimate(drawn[name], of[name]) for name in NAMES}


def difference(table: np.ndarray, other: np.ndarray, measure: str = "exact match") -> Estimate:
    """The difference of a measure between two arms on the same prompts, with an interval by paired resampling."""
    at = list(MEASURES).index(measure)
    pair = ratios(np.stack([table[:, at], other[:, at]], 1))
    return estimate(pair[:, 0] - pair[:, 1], int(table[:, at, 1].sum()))

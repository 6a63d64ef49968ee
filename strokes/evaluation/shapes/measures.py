"""What is measured of trials, each a ratio of two counts, and bootstrap intervals over prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import comb, isfinite

import numpy as np

from .trials import Drift, Step, Trial

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A measure with its 95 % bootstrap interval. ``of`` is how many cases it was taken from; without one the value is
    None, and so is an end of the interval that has no limit."""

    value: float | None
    low: float | None
    high: float | None
    of: int


# (numerator, denominator) of a trial.
Count = Callable[[Trial], tuple[float, float]]


def _each(count: Callable[[Trial], float]) -> Count:
    return lambda trial: (count(trial), 1)


def _of_steps(trial: Trial, among: Callable[[Step], bool], hit: Callable[[Step], object]) -> tuple[float, float]:
    """Among judged rounds: how many of those are a hit."""
    chosen = [s for s in trial.steps if s.right is not None and among(s)]
    return sum(bool(hit(s)) for s in chosen), len(chosen)


def _steps(among: Callable[[Step], bool], hit: Callable[[Step], object]) -> Count:
    return partial(_of_steps, among=among, hit=hit)


def _keeps(drift: Callable[[Step], Drift]) -> Count:
    return lambda trial: (sum(drift(s).still for s in trial.steps), sum(drift(s).objects for s in trial.steps))


def _shift(drift: Callable[[Step], Drift]) -> Count:
    return lambda trial: (sum(drift(s).shift for s in trial.steps), sum(drift(s).still for s in trial.steps))


def _against(steps: Callable[[Trial], int]) -> Count:
    """Pictures painted, and needed: one a step, and one more for every sketch that the checker calls wrong."""

    def count(trial: Trial) -> tuple[float, float]:
        errors = sum(s.right is False for s in trial.steps)
        return (trial.pictures, steps(trial) + errors) if trial.steps else (0, 0)

    return count


def _fixed(step: Step) -> bool:
    return step.right is False and step.refined is True


def _broken(step: Step) -> bool:
    return step.right is True and step.refined is False


def _inspector(state: str, among: Callable[[Step], bool]) -> dict[str, Count]:
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


def ratios(table: np.ndarray) -> np.ndarray:
    """Ratios ``[1 + resamples, measures]``: first those of all prompts, then those of every resample."""
    flat = table.reshape(len(table), -1)
    drawn = np.concatenate([flat.sum(0, keepdims=True), resamples(len(table)) @ flat]).reshape(-1, *table.shape[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return drawn[..., 0] / drawn[..., 1]


@lru_cache(maxsize=4)
def resamples(prompts: int) -> np.ndarray:
    """How often each prompt is drawn in each resample, ``[resamples, prompts]``: the same whenever asked."""
    drawn = np.random.default_rng(prompts).integers(prompts, size=(RESAMPLES, prompts))
    drawn += np.arange(RESAMPLES)[:, None] * prompts
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * prompts).reshape(RESAMPLES, prompts).astype(float)


def _estimate(drawn: np.ndarray, of: int) -> Estimate:
    """From the ratio itself and those of the resamples. Resamples without a case (0/0) are left out."""
    known = drawn[1:][~np.isnan(drawn[1:])]
    if not of or not isfinite(drawn[0]) or not len(known):
        return Estimate(None, None, None, of)
    # Without interpolation: an end may be infinite.
    low, high = np.quantile(known, (0.025, 0.975), method="inverted_cdf").tolist()
    return Estimate(float(drawn[0]), low if isfinite(low) else None, high if isfinite(high) else None, of)


def sign_test(won: int, lost: int) -> float:
    """Exact two-sided p of so many wins and losses: for pairs that only one of two arms got right, McNemar's."""
    tail = sum(comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
    return min(1.0, 2 * tail)

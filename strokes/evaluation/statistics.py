"""Statistics: bootstrap estimates over prompts, paired differences and the sign test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb, isfinite

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A ratio with its 95 % bootstrap interval; ``of`` is its number of cases (the denominator). ``value`` is None without
    cases, and ``low`` or ``high`` where that end is infinite."""

    value: float | None
    low: float | None
    high: float | None
    of: int


def ratios(table: np.ndarray) -> np.ndarray:
    """Ratios ``[1 + resamples, measures]`` of a table ``[prompts, measures, 2]`` of numerators and denominators: first over
    all prompts, then over every bootstrap resample of the prompts."""
    flat = table.reshape(len(table), -1)
    drawn = np.concatenate([flat.sum(0, keepdims=True), resamples(len(table)) @ flat]).reshape(-1, *table.shape[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return drawn[..., 0] / drawn[..., 1]


@lru_cache(maxsize=4)
def resamples(prompts: int) -> np.ndarray:
    """How often each prompt is drawn in each bootstrap resample, ``[resamples, prompts]``; the same for the same number."""
    drawn = np.random.default_rng(prompts).integers(prompts, size=(RESAMPLES, prompts))
    drawn += np.arange(RESAMPLES)[:, None] * prompts
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * prompts).reshape(RESAMPLES, prompts).astype(float)


def estimate(drawn: np.ndarray, of: int) -> Estimate:
    """The estimate from ``[1 + resamples]`` ratios, the first over all prompts; resamples without a case (0/0) are left out."""
    known = drawn[1:][~np.isnan(drawn[1:])]
    if not of or not isfinite(drawn[0]) or not len(known):
        return Estimate(None, None, None, of)
    # Without interpolation: an end may be infinite.
    low, high = np.quantile(known, (0.025, 0.975), method="inverted_cdf").tolist()
    return Estimate(float(drawn[0]), low if isfinite(low) else None, high if isfinite(high) else None, of)


def sign_test(won: int, lost: int) -> float:
    """Exact two-sided p value of the sign test; McNemar's where wins and losses are pairs that one of two arms got right."""
    tail = sum(comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
    return min(1.0, 2 * tail)

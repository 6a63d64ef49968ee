"""A session: what one stage asks its model, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import accumulate

from ..painter import Painter
from ..settings import AUTO_TEXT, OnText, State, TextOverrides, TextSettings, Written
from ..trajectory import Cost, Trajectory
from .protocol import Answers, Asked, Segment, TextSegment, Verdict

# The share of probability that the given answers must have together. Where the model is that unlikely to give any of
# them, the ratio between them says nothing.
LEAST_SHARE = 0.05


def stage_seed(seed: int, round_index: int, stage: str) -> int:
    """63 bits from (seed, round, stage), whatever came before."""
    return int.from_bytes(sha256(f"{seed}/{round_index}/{stage}".encode()).digest()[:8], "big") >> 1


def states(painter: Painter, segments: Iterable[Segment]) -> list[State]:
    """The state before the first segment, and after each."""

    def read(state: State, segment: Segment) -> State:
        if isinstance(segment, TextSegment):
            return painter.read_text(state, segment.text)
        return painter.read_picture(state, segment.picture, segment.form)

    return list(accumulate(segments, read, initial=painter.blank()))


class StageSession:
    """The :class:`.protocol.Session` of a stage. ``cost`` grows with each question; ``settings`` are those of the text written
    last. Texts written in one stage are seeded apart.
    """

    def __init__(
        self,
        painter: Painter,
        trajectory: Trajectory,
        asked: Asked,
        seed: int = 0,
        overrides: TextOverrides = AUTO_TEXT,
        on_text: OnText | None = None,
    ):
        self.painter, self.trajectory, self.asked = painter, trajectory, asked
        self.seed, self.overrides, self.on_text = seed, overrides, on_text
        self.cost = Cost()
        self.settings: TextSettings = overrides.over(painter.profile.text)
        self._written = 0

    def check_text(self, text: str) -> None:
        self.painter.check_text(text)

    def write(
        self, segments: Iterable[Segment], *, start: str = "", stop: Sequence[str] = (), max_tokens: int | None = None
    ) -> Written:
        profile = self.painter.profile.text
        limit = profile.max_tokens if max_tokens is None else min(max_tokens, profile.max_tokens)
        self.settings = self.overrides.over(replace(profile, max_tokens=limit))
        self._written += 1
        stage = self.asked if self._written == 1 else f"{self.asked}/{self._written}"
        seed = stage_seed(self.seed, self.trajectory.round_index, stage)
        state = states(self.painter, segments)[-1]
        written = self.painter.write_text(state, self.settings, seed, self.on_text, start, stop)
        self.cost += Cost(tokens=written.tokens)
        return written

    def weigh(self, segments: Iterable[Segment], answers: Answers, start: str = "") -> dict[str, float]:
        spellings = [spelling for each in answers.values() for spelling in each]
        scored = self.painter.score(states(self.painter, segments)[-1], spellings, start)
        self.cost += Cost(scored=scored.rows)
        found = iter(scored.log_probabilities)
        return {name: log_sum([next(found) for _ in each]) for name, each in answers.items()}

    def decide(self, segments: Iterable[Segment], answers: Answers, threshold: float, start: str = "") -> Verdict:
        yes, no = self.weigh(segments, answers, start).values()
        return verdict_of(yes, no, threshold, " nor ".join(f'"{name}"' for name in answers))


def verdict_of(yes: float, no: float, threshold: float, between: str) -> Verdict:
    """The verdict of two log-probabilities; ``between`` names the answers where neither is likely."""
    share = math.exp(log_sum([yes, no]))
    if share < LEAST_SHARE:
        return Verdict(problem=f"the model answers neither {between} ({share:.1%} of its probability)")
    # A probability that float32 rounds to 0 is taken for the smallest one it holds.
    margin = round(max(yes, -104.0) - max(no, -104.0) - threshold, 4)
    return Verdict(yes=margin >= 0, margin=margin)


def log_sum(logs: Sequence[float]) -> float:
    """The log of the sum of probabilities given as natural logs."""
    most = max(logs, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(each - most) for each in logs))


def log_rest(log: float) -> float:
    """The log of what a probability leaves to all others."""
    return math.log1p(-math.exp(log)) if log < 0 else -math.inf

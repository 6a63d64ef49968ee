"""The report of an evaluation: every measure by arm and group of prompts, paired differences, and the project's goals."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from ...shapes.splits import SPLITS
from ..statistics import Estimate, sign_test
from . import measures
from .arms import ARMS
from .measures import difference, estimates
from .prompts import GROUPS, Prompt
from .trials import Trial

# Groups in which the process is compared with the other arms.
COMPARED = ("all", "3 or more")


@dataclass(frozen=True)
class Example:
    """A prompt that one of one-shot and the process painted right; ``pictures`` and ``right`` are in this order."""

    prompt: str
    pictures: tuple[Image.Image | None, Image.Image | None]
    right: tuple[bool, bool]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The exact match of the process less that of the arm ``other`` in a group of prompts, paired over prompts, each with
    all its seeds.

    ``won`` and ``lost`` count the paintings that only the process, or only the other arm, got right. ``p`` is of the exact
    sign test over prompts (which arm was right with more seeds); with one seed it is McNemar's.
    """

    other: str
    group: str
    above: Estimate
    won: int
    lost: int
    p: float


@dataclass(frozen=True)
class Goal:
    """A goal of the project: what is wanted, what was measured, and whether that meets it (None: not measured)."""

    name: str
    wanted: str
    measured: str
    met: bool | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of an evaluation: its prompts and trials, and from them every number.

    ``unread`` are (line number, reason) of the prompts left out. ``examples`` are at most twelve prompts on which one-shot
    and the process differ. ``batched`` says that prompts were painted side by side: a trial's seconds are then its share
    of the whole time, and not how long one waits for it.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    prompts: tuple[Prompt, ...]
    trials: tuple[Trial, ...]
    unread: tuple[tuple[int, str], ...] = ()
    examples: tuple[Example, ...] = ()
    batched: bool = False

    def of(self, arm: str) -> list[Trial]:
        """The trials of an arm."""
        return [t for t in self.trials if t.arm == arm]

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Group → indexes of its prompts; groups without any are left out."""
        members = {group: [i for i, p in enumerate(self.prompts) if group in p.groups] for group in GROUPS}
        return {group: rows for group, rows in members.items() if rows}

    @cached_property
    def _counts(self) -> dict[str, np.ndarray]:
        lines = [p.line for p in self.prompts]
        return {arm: measures.counts(self.of(arm), lines) for arm in self.arms}

    @cached_property
    def measured(self) -> dict[str, dict[str, dict[str, Estimate]]]:
        """Group → arm → measure → estimate."""
        return {
            group: {arm: estimates(self._counts[arm][rows]) for arm in self.arms} for group, rows in self.groups.items()
        }

    def get(self, measure: str, arm: str = "process", group: str = "all") -> Estimate:
        """One estimate; its value is None where the report lacks the group or the arm."""
        arms = self.measured.get(group, {})
        return arms[arm][measure] if arm in arms else Estimate(None, None, None, 0)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """The process compared with every other arm, in each group of :data:`COMPARED`."""
        if "process" not in self.arms:
            return ()
        right = {arm: {(t.line, t.seed): t.right for t in self.of(arm)} for arm in self.arms}
        found = []
        for group in COMPARED:
            rows = self.groups.get(group, [])
            lines = {self.prompts[i].line for i in rows}
            for arm in self.arms if rows else ():
                if arm == "process":
                    continue
                gains = [(key[0], r - right[arm][key]) for key, r in right["process"].items() if key[0] in lines]
                by_prompt = Counter[int]()
                for line, gain in gains:
                    by_prompt[line] += gain
                p = sign_test(*(sum(sign * gain > 0 for gain in by_prompt.values()) for sign in (1, -1)))
                won, lost = (sum(gain == sign for _, gain in gains) for sign in (1, -1))
                above = difference(self._counts["process"][rows], self._counts[arm][rows])
                found.append(Difference(other=arm, group=group, above=above, won=won, lost=lost, p=p))
        return tuple(found)

    def faults(self) -> dict[str, tuple[int, int]]:
        """Fault → (wrong sketches of the process with it, those of them that its inspector rejected), commonest first."""
        wrong = [r for t in self.of("process") for r in t.steps if r.right is False]
        every, caught = Counter(r.fault for r in wrong), Counter(r.fault for r in wrong if not r.accepted)
        return {fault: (n, caught[fault]) for fault, n in every.most_common()}

    def repaintings(self) -> tuple[int, int]:
        """Sketches that the process's repainting fixed, and broke."""
        counts = [measures.MEASURES[measures.FIXES](t) for t in self.of("process")]
        return int(sum(fixed for fixed, _ in counts)), int(sum(broken for _, broken in counts))

    def goals(self) -> list[Goal]:
        """The project's goals for the full process."""
        there = [split for split in SPLITS if split in self.groups]
        n, k = len(self.prompts), len(self.seeds)
        size = Goal(
            "measured on", "2000 prompts, 3 seeds, 4 splits",
            f"{_some(n, 'prompt')}, {_some(k, 'seed')}, {_some(len(there), 'split')}",
            n >= 2000 and k >= 3 and len(there) == len(SPLITS),
        )  # fmt: skip
        return [
            size,
            self._at_least("exact match, seen combinations", 0.90, self.get("exact match", group="seen")),
            self._at_least("exact match, held-out combinations", 0.75, self.get("exact match", group="held out")),
            self._above("one-shot", 0.10),
            self._above("best-of-k", 0.05),
            self._at_least("exact match, single object", 0.98, self.get("exact match", group="single")),
            self._at_least("inspector: balanced accuracy", 0.90, self.get("balanced accuracy")),
            self._at_least("inspector: right but incomplete", 0.95, self.get("right accepted, incomplete")),
            # An inspector that accepts everything meets the goal above, but not this one.
            self._at_least("inspector: right or wrong, incomplete", 0.95, self.get("accuracy, incomplete")),
            *self._process_goals(),
        ]

    def _at_least(self, name: str, least: float, found: Estimate) -> Goal:
        met = None if found.value is None else found.value >= least
        return Goal(name, f"at least {least:.0%}", shares(found), met)

    def _about_one(self, name: str, found: Estimate) -> Goal:
        met = None if found.value is None else abs(found.value - 1) <= 0.2
        return Goal(name, "0.80 to 1.20", number(found), met)

    def _above(self, other: str, least: float) -> Goal:
        name, wanted = f"3 or more: above {ARMS[other]}", f"+{least:.2f}, interval above 0"
        found = [d.above for d in self.differences if (d.other, d.group) == (other, "3 or more")]
        if not found or found[0].value is None or found[0].low is None:
            return Goal(name, wanted, "–", None)
        met = found[0].value >= least and found[0].low > 0
        return Goal(name, wanted, signed(found[0]), met)

    def _process_goals(self) -> list[Goal]:
        trials = self.of("process")
        fixed, broken = self.repaintings()
        endless = sum(not t.ended for t in trials)
        return [
            Goal(
                "refinement: errors fixed for each made", "at least 3", f"{fixed} fixed, {broken} made",
                fixed >= 3 * broken if fixed or broken else None,
            ),
            self._about_one("pictures / (steps + wrong sketches)", self.get("pictures / needed")),
            # The plan may have too many steps, which the goal above does not see.
            self._about_one("pictures / (shapes + wrong sketches)", self.get("pictures / least")),
            Goal(
                "did not end by itself", "none", f"{endless} of {len(trials)}" if trials else "–",
                endless == 0 if trials else None,
            ),
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All numbers and every trial as a JSON object, without pictures."""
        return {
            "seeds": list(self.seeds),
            "arms": {arm: ARMS[arm] for arm in self.arms},
            "together": self.batched,
            "goals": [asdict(goal) for goal in self.goals()],
            "measured": {
                group: {
                    "prompts": len(self.groups[group]),
                    "arms": {arm: {k: asdict(e) for k, e in found.items()} for arm, found in arms.items()},
                }
                for group, arms in self.measured.items()
            },
            "process above": [asdict(d) for d in self.differences],
            "faults": {fault: {"wrong": n, "rejected": k} for fault, (n, k) in self.faults().items()},
            "unread": [{"line": line, "reason": why} for line, why in self.unread],
            "prompts": [{"line": p.line, "prompt": p.text, "kind": p.kind, "split": p.split} for p in self.prompts],
            "trials": [asdict(t) for t in self.trials],
        }


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s'[: count != 1]}"


def shares(e: Estimate) -> str:
    """In percent: ``93.2 92–94``."""
    if e.value is None or e.low is None or e.high is None:
        return "–"
    return f"{'100' if e.value == 1 else f'{e.value:.1%}'[:-1]} {100 * e.low:.0f}–{100 * e.high:.0f}"


def counted(e: Estimate) -> str:
    """In percent of how many: ``80.0 50–100 of 10``."""
    return f"{shares(e)} of {e.of}" if e.of else "–"


def number(e: Estimate) -> str:
    """``2.48 2.40–2.56``, three digits or four; an end without limit is ∞."""
    if e.value is None:
        return "–"
    value, low, high = ("∞" if x is None else f"{x:.{(x < 100) + (x < 10)}f}" for x in (e.value, e.low, e.high))
    return f"{value} {low}–{high}"


def signed(e: Estimate) -> str:
    """``+0.123 (+0.110 to +0.136)``."""
    if e.value is None or e.low is None or e.high is None:
        return "–"
    return f"{e.value:+.3f} ({e.low:+.3f} to {e.high:+.3f})"

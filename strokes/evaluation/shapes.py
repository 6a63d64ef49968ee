"""The shapes benchmark: prompts in, exact match and the inspector's honesty out, one-shot against the process.

The rule-based checker judges afterwards; it is never called while a picture is painted. Its numbers hold for this small
world only and compare with no other benchmark's.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import comb
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import StrokesError
from ..process import loop, stages
from ..process.oneshot import text_to_image
from ..process.painter import Painter
from ..process.trajectory import Cost, Round
from ..training.scene_graph import (
    CATEGORIES,
    PromptMix,
    SceneGraph,
    read_prompt,
    reserved,
    sample_graph,
    sample_layout,
    write_prompt,
)
from .checker import check

ARMS = ("one-shot", "process")
MAX_EXAMPLES = 12

# Called before each picture and after the last: (pictures finished, pictures in all, prompt). May raise Cancelled.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Step:
    """One inspected sketch. ``right`` is the checker's truth, None where the plan's description cannot be read;
    ``refined`` is the same for the repainted picture, None where nothing was repainted."""

    right: bool | None
    complete: bool
    accepted: bool
    refined: bool | None = None


@dataclass(frozen=True)
class Trial:
    """One prompt painted by one arm. ``line`` counts from 1; ``pictures`` are those painted; ``ended`` says whether the
    process ended by itself."""

    line: int
    prompt: str
    kind: str
    arm: str
    right: bool
    reasons: tuple[str, ...]
    pictures: int
    cost: Cost
    ended: bool | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Example:
    """A prompt on which the arms differ; ``pictures`` and ``right`` are one-shot, process."""

    prompt: str
    pictures: tuple[Image.Image | None, Image.Image | None]
    right: tuple[bool, bool]


@dataclass(frozen=True)
class Report:
    """What was measured. ``unread`` are (line number, why) of prompts left out; ``examples`` hold at most twelve wins
    and twelve losses of the process."""

    arms: tuple[str, ...]
    seed: int
    trials: tuple[Trial, ...]
    unread: tuple[tuple[int, str], ...] = ()
    examples: tuple[Example, ...] = ()

    def score(self, arm: str, kind: str | None = None) -> tuple[int, int]:
        """Pictures that match exactly, and pictures, of one kind or of all."""
        right = [t.right for t in self.trials if t.arm == arm and kind in (None, t.kind)]
        return sum(right), len(right)

    def per_prompt(self, arm: str) -> dict[str, float]:
        """Mean pictures, model calls, text tokens and seconds."""
        trials = [t for t in self.trials if t.arm == arm]
        total = sum((t.cost for t in trials), Cost())
        sums = {"pictures": sum(t.pictures for t in trials), "model calls": total.model_calls, "tokens": total.tokens}
        return {name: value / len(trials) for name, value in (*sums.items(), ("seconds", total.seconds))}

    def paired(self) -> dict[str, Any] | None:
        """Prompts that only one arm painted right, and McNemar's exact two-sided p; None without both arms."""
        if set(self.arms) != set(ARMS):
            return None
        right = {(t.line, t.arm): t.right for t in self.trials}
        pairs = Counter((right[line, ARMS[0]], right[line, ARMS[1]]) for line in {t.line for t in self.trials})
        won, lost = pairs[False, True], pairs[True, False]
        tail = sum(comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
        return {"only process": won, "only one-shot": lost, "p": min(1.0, 2 * tail)}

    def inspector(self) -> dict[str, Any] | None:
        """How the model's verdicts compare with the checker's truth, and what repainting did; None where nothing was
        inspected. Shares without a single case are None."""
        steps = [s for t in self.trials for s in t.steps]
        if not steps:
            return None
        judged = [s for s in steps if s.right is not None]
        right, wrong = [s for s in judged if s.right], [s for s in judged if not s.right]
        passed, missed = sum(s.accepted for s in right), sum(s.accepted for s in wrong)
        caught = len(wrong) - missed
        incomplete = [s for s in right if not s.complete]
        repainted = [s for s in judged if s.refined is not None]
        before_wrong = [s.refined for s in repainted if not s.right]
        before_right = [s.refined for s in repainted if s.right]
        ended = [t.ended for t in self.trials if t.ended is not None]
        sure, doubt = _share(passed, len(right)), _share(caught, len(wrong))
        return {
            "judged": len(judged),
            "unreadable plans": len(steps) - len(judged),
            "right accepted": passed,
            "right rejected": len(right) - passed,
            "wrong accepted": missed,
            "wrong rejected": caught,
            "accuracy": _share(passed + caught, len(judged)),
            "balanced accuracy": None if sure is None or doubt is None else (sure + doubt) / 2,
            "always accepting": _share(len(right), len(judged)),
            "always rejecting": _share(len(wrong), len(judged)),
            "right but incomplete": len(incomplete),
            "accuracy on right but incomplete": _share(sum(s.accepted for s in incomplete), len(incomplete)),
            "repainted wrong": len(before_wrong),
            "fix rate": _share(sum(map(bool, before_wrong)), len(before_wrong)),
            "repainted right": len(before_right),
            "break rate": _share(sum(not r for r in before_right), len(before_right)),
            "ended by itself": _share(sum(ended), len(ended)),
        }

    def to_json(self) -> dict[str, Any]:
        """All numbers and every trial as JSON values, without pictures."""
        kinds: dict[str, Any] = {}
        for kind in (*CATEGORIES, "all"):
            scores = {arm: self.score(arm, None if kind == "all" else kind) for arm in self.arms}
            kinds[kind] = {a: {"right": k, "of": n, "interval": wilson(k, n)} for a, (k, n) in scores.items() if n}
        return {
            "seed": self.seed,
            "exact match": kinds,
            "per prompt": {arm: self.per_prompt(arm) for arm in self.arms},
            "paired": self.paired(),
            "inspector": self.inspector(),
            "unread": [{"line": line, "reason": why} for line, why in self.unread],
            "trials": [asdict(t) for t in self.trials],
        }

    def table(self) -> str:
        """Plain text for a terminal."""
        lines = ["Exact match, with 95 % Wilson intervals", _row("", self.arms)]
        for kind in (*CATEGORIES, "all"):
            scores = [self.score(arm, None if kind == "all" else kind) for arm in self.arms]
            if scores[0][1]:
                lines.append(_row(kind, [_interval(k, n) for k, n in scores]))
        if pair := self.paired():
            won, lost = pair["only process"], pair["only one-shot"]
            lines += [
                "",
                f"Right by the process only: {won}, by one-shot only: {lost} (McNemar exact p = {pair['p']:.3g})",
            ]
        costs = {arm: self.per_prompt(arm) for arm in self.arms}
        lines += ["", _row("Per prompt", self.arms)]
        for name in costs[self.arms[0]]:
            lines.append(_row(name, [f"{costs[arm][name]:.2f}" for arm in self.arms]))
        if seen := self.inspector():
            lines += ["", *_inspector_lines(seen)]
        if self.unread:
            lines += ["", "Prompts left out", *(f"  line {line}: {why}" for line, why in self.unread)]
        return "\n".join(line.rstrip() for line in lines)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<22}" + "".join(f"{cell:<30}" for cell in cells)


def _interval(k: int, n: int) -> str:
    low, high = wilson(k, n)
    return f"{k:>4}/{n:<4} {k / n:6.1%}  ({low:.0%} to {high:.0%})"


def _inspector_lines(seen: dict[str, Any]) -> list[str]:
    def percent(name: str) -> str:
        return "–" if seen[name] is None else f"{seen[name]:.1%}"

    def of(name: str, count: str) -> str:
        return f"{percent(name)} of {seen[count]}"

    return [
        f"Inspector, {seen['judged']} sketches judged, {seen['unreadable plans']} with an unreadable plan",
        _row("", ["accepted", "rejected"]),
        *(
            _row(truth, [str(seen[f"{truth} {said}"]) for said in ("accepted", "rejected")])
            for truth in ("right", "wrong")
        ),
        f"  accuracy {percent('accuracy')}, balanced {percent('balanced accuracy')}; always accepting would score "
        f"{percent('always accepting')}, always rejecting {percent('always rejecting')}",
        f"  right but incomplete: {of('accuracy on right but incomplete', 'right but incomplete')} accepted",
        f"Repainted: {of('fix rate', 'repainted wrong')} wrong sketches fixed, "
        f"{of('break rate', 'repainted right')} right ones broken",
        f"Ended by itself: {percent('ended by itself')}",
    ]


def _share(k: int, n: int) -> float | None:
    return k / n if n else None


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share k of n > 0; 95 % at the default ``z``."""
    centre, spread = k / n + z * z / (2 * n), z * (k * (n - k) / n**3 + z * z / (4 * n * n)) ** 0.5
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def evaluate(
    painter: Painter[Any],
    prompts: Sequence[str],
    arms: Sequence[str] = ARMS,
    *,
    rounds: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Paint every prompt with every arm and check the last pictures. Both arms of a prompt share its seed.

    ``rounds`` None gives the process two rounds more than the prompt has objects. Blank lines are skipped; prompts that
    cannot be read are listed in the report. Raises StrokesError for an unknown arm and where no prompt can be read.
    """
    if not arms or set(arms) - set(ARMS):
        raise StrokesError(f"unknown arms {', '.join(arms) or '(none)'}: choose from {', '.join(ARMS)}")
    if rounds is not None:
        loop.check_rounds(rounds)
    arms = tuple(arm for arm in ARMS if arm in arms)
    graphs: dict[int, SceneGraph] = {}
    unread: list[tuple[int, str]] = []
    for line, prompt in enumerate(prompts, 1):
        if not prompt.strip():
            continue
        try:
            graphs[line] = read_prompt(prompt)
            stages.begin(painter, prompt)
        except StrokesError as error:
            graphs.pop(line, None)
            unread.append((line, str(error)))
    if not graphs:
        why = f"line {unread[0][0]}: {unread[0][1]}" if unread else "the file is empty"
        raise StrokesError(f"no prompt to evaluate: {why}")

    trials: list[Trial] = []
    wins: list[Example] = []
    losses: list[Example] = []
    total = len(graphs) * len(arms)
    for line, graph in graphs.items():
        prompt, last = prompts[line - 1].strip(), []
        for arm in arms:
            if progress:
                progress(len(trials), total, prompt)
            own_seed = stages.stage_seed(seed, line, "prompt")
            trial = Trial(line, prompt, graph.category, arm, False, (), 1, Cost())
            paint = _one_shot if arm == "one-shot" else _process
            trial, image = paint(painter, trial, graph, rounds, own_seed)
            trials.append(trial)
            last.append(image)
        if len(arms) == 2 and trials[-2].right != trials[-1].right:
            kept = wins if trials[-1].right else losses
            if len(kept) < MAX_EXAMPLES:
                kept.append(Example(prompt, (last[0], last[1]), (trials[-2].right, trials[-1].right)))
    if progress:
        progress(total, total, "")
    return Report(arms, seed, tuple(trials), tuple(unread), (*wins, *losses))


_Painted = tuple[Trial, Image.Image | None]


def _one_shot(painter: Painter[Any], trial: Trial, graph: SceneGraph, rounds: int | None, seed: int) -> _Painted:
    began = perf_counter()
    painted = text_to_image(painter, trial.prompt, seed=seed)
    cost = Cost(painted.calls, seconds=perf_counter() - began)
    image = painted.picture.image
    verdict = check(image, graph)
    return replace(trial, right=verdict.ok, reasons=verdict.reasons, cost=cost), image


def _process(painter: Painter[Any], trial: Trial, graph: SceneGraph, rounds: int | None, seed: int) -> _Painted:
    began = perf_counter()
    rounds = rounds or min(len(graph.objects) + 2, loop.MAX_ROUNDS)
    done = loop.run(painter, stages.begin(painter, trial.prompt), rounds, seed=seed)
    trial = replace(trial, cost=replace(done.cost, seconds=perf_counter() - began), pictures=len(done.pictures))
    trial = replace(trial, ended=done.ended, steps=tuple(judge(r, graph) for r in done.rounds))
    if done.picture is None:
        return replace(trial, reasons=("nothing was painted",)), None
    verdict = check(done.picture.image, graph)
    return replace(trial, right=verdict.ok, reasons=verdict.reasons), done.picture.image


def judge(step: Round, prompt: SceneGraph) -> Step:
    """Judge an inspected round of a process for ``prompt``.

    A sketch is right where it satisfies both the plan's description and that part of the prompt which the description
    names. A repainting is judged alike, but where the description itself contradicts the prompt, by the prompt alone.
    """
    assert step.sketch and step.critique
    accepted = step.critique.accepted
    try:
        planned = read_prompt(step.plan.description)
    except StrokesError:
        return Step(None, False, accepted)
    count = min(len(planned.objects), len(prompt.objects))
    parts = [prompt.subgraph(keep) for keep in combinations(range(len(prompt.objects)), count)]
    named = [part for part in parts if Counter(part.objects) == Counter(planned.objects)]

    def right(image: Image.Image) -> bool:
        return check(image, planned).ok and any(check(image, part).ok for part in named)

    refined = None
    if step.refinement and step.refinement.picture:
        image = step.refinement.picture.image
        refined = right(image) if named else any(check(image, part).ok for part in parts)
    return Step(right(step.sketch.picture.image), count == len(prompt.objects), accepted, refined)


def write_prompts(count: int, seed: int = 0, max_objects: int = 4) -> list[str]:
    """Distinct prompts spread evenly over the six kinds, drawn only from those that training leaves out.

    The forty single shapes must all be learned, so there only layout and noise are new; and a reserved scene may still
    be passed through on the way to a larger prompt. A kind with few prompts (the single shapes, reserved "two objects"
    and "colours") leaves its share to the others once used up. Raises StrokesError for a count below 1 and for other
    than 2 to 5 objects.
    """
    if count < 1 or not 2 <= max_objects <= 5:
        raise StrokesError(
            f"{count} prompts of up to {max_objects} objects: ask for at least 1 prompt, of 2 to 5 objects"
        )
    rng, mix = np.random.default_rng(seed), PromptMix(max_objects=max_objects)
    prompts: dict[str, None] = {}
    open_kinds = list(CATEGORIES)
    while len(prompts) < count:
        for kind in tuple(open_kinds):
            prompt = _new_prompt(rng, mix, kind, prompts)
            if prompt is None:
                open_kinds.remove(kind)
            elif len(prompts) < count:
                prompts[prompt] = None
    return list(prompts)


def _new_prompt(rng: np.random.Generator, mix: PromptMix, kind: str, known: Container[str]) -> str | None:
    """None where 2,000 draws bring nothing new: the kind is used up."""
    for _ in range(2000):
        graph = sample_graph(rng, mix, kind)
        prompt = write_prompt(graph, long_forms=rng.random() < 0.25)
        allowed = kind == "single" or reserved(graph)
        if allowed and prompt not in known and sample_layout(graph, rng) is not None:
            return prompt
    return None


def save_examples(report: Report, path: str | Path) -> int:
    """Write a PNG sheet of up to twelve prompts on which the arms differ, wins of the process before its losses.

    Returns how many it shows; where the arms never differ, the sheet says so.
    """
    sides = [[e for e in report.examples if e.right[1] == won] for won in (True, False)]
    half = MAX_EXAMPLES // 2
    room = [max(half, MAX_EXAMPLES - len(other)) for other in reversed(sides)]
    shown = [e for side, most in zip(sides, room, strict=True) for e in side[:most]]
    tile, gap, text = 192, 12, 66
    width, height = 2 * tile + 3 * gap, tile + text + 2 * gap
    columns, rows = max(1, min(3, len(shown))), max(1, -(-len(shown) // 3))
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    if not shown:
        draw.text((gap, gap), "There is no prompt on which the arms differ.", font=font, fill="#1d1d1f")
    for i, example in enumerate(shown):
        left, top = i % columns * width + gap, i // columns * height + gap
        lines = textwrap.wrap(example.prompt, 60, max_lines=3)
        draw.multiline_text((left, top), "\n".join(lines), font=font, fill="#1d1d1f")
        for j, (arm, image, right) in enumerate(zip(ARMS, example.pictures, example.right, strict=True)):
            x, y = left + j * (tile + gap), top + text
            draw.text(
                (x, y - 17),
                f"{arm}: {'right' if right else 'wrong'}",
                font=font,
                fill="#1f7a4d" if right else "#b25a00",
            )
            if image:
                sheet.paste(image.convert("RGB").resize((tile, tile), Image.Resampling.NEAREST), (x, y))
            else:
                draw.rectangle((x, y, x + tile - 1, y + tile - 1), outline="#b25a00")
    sheet.save(path, "PNG")
    return len(shown)

"""The shapes benchmark: paints prompts with every arm, checks the last pictures by rules, and reports.

Only the arm "oracle" is given the rule-based critic's verdicts while it paints. The numbers hold for this small world,
and do not compare with those of other benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import count
from time import perf_counter
from typing import Any, NamedTuple

from PIL import Image

from ...errors import StrokesError
from ...process import loop, stages
from ...process.painter import Painter
from ...shapes.checker import CheckResult, check
from ...shapes.language import WHOLE
from ...shapes.scene_graph import SceneGraph
from .. import arms as ways
from ..arms import Arm, Outcome, Task
from .arms import ARMS, best_of_k, oracle, shuffled
from .examples import TILE, choose
from .prompts import read_prompts
from .report import Example, Report
from .trials import Trial, judge_rounds

DEFAULT_ARMS = ("one-shot", "process")
# The arms that need the trials of the process.
_AFTER_PROCESS = ("best-of-k", "shuffled")


class Painting(NamedTuple):
    """A trial, and its last picture as PNG bytes where it may become an example."""

    trial: Trial
    png: bytes | None


Job = Callable[[Painter], Painting]


def evaluate(
    painter: Painter,
    lines: Sequence[str],
    arms: Sequence[str] = DEFAULT_ARMS,
    *,
    rounds: int | None = None,
    seeds: Sequence[int] = (0,),
    progress: Callable[[int, int, str], None] | None = None,
    run_batched: Callable[[Any, Sequence[Job]], Iterable[Painting]] | None = None,
) -> Report:
    """Paint the prompt of every line with every arm and every seed, and check the last pictures. All arms share the seed
    of a painting.

    ``rounds`` is the most a process may take; None is two more than the prompt has objects. ``progress`` is called after
    each painting with the paintings finished, the paintings in all, and the prompt; it may raise Cancelled.
    ``run_batched`` runs jobs with the painter side by side and returns their results in order; None runs them one
    after the other.

    Blank lines are skipped; prompts that cannot be read are listed in the report. Raises StrokesError for unknown arms or
    seeds and where no prompt can be read.
    """
    check_arms(arms)
    chosen = tuple(arm for arm in ARMS if arm in arms)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise StrokesError(f"seeds {', '.join(map(str, seeds)) or '(none)'}: give different whole numbers from 0 on")
    if rounds is not None:
        loop.check_rounds(rounds)
    prompts, unread = read_prompts(lines, partial(stages.begin, painter))
    graphs = {prompt.line: prompt.graph for prompt in prompts}
    tasks = [
        Task(p.text, p.line, seed, rounds or min(len(p.graph.objects) + 2, loop.MAX_ROUNDS))
        for seed in seeds
        for p in prompts
    ]
    total, finished = len(tasks) * len(chosen), count(1)

    def job(arm: str, paint: Arm, task: Task) -> Job:
        def run(painter: Painter) -> Painting:
            began = perf_counter()
            outcome = paint(painter, task)
            trial = _trial(arm, task, graphs[task.line], outcome, perf_counter() - began)
            if progress:
                progress(next(finished), total, task.text)
            return Painting(trial, _png(outcome.image) if arm in DEFAULT_ARMS else None)

        return run

    paintings: dict[str, list[Painting]] = {}
    for arm in sorted(chosen, key=lambda arm: arm in _AFTER_PROCESS):
        paint = _arm(arm, [painting.trial for painting in paintings.get("process", [])])
        began = perf_counter()
        jobs = [job(arm, paint, task) for task in tasks]
        if run_batched is None:
            paintings[arm] = [run(painter) for run in jobs]
        else:
            paintings[arm] = _share_seconds(list(run_batched(painter, jobs)), perf_counter() - began)
    return Report(
        arms=chosen,
        seeds=tuple(seeds),
        prompts=tuple(prompts),
        trials=tuple(painting.trial for arm in chosen for painting in paintings[arm]),
        unread=tuple(unread),
        examples=_examples(tasks, paintings),
        batched=run_batched is not None,
    )


def check_arms(arms: Sequence[str]) -> None:
    """Raise StrokesError for unknown arms, none, or one without the process that it needs."""
    if not arms or set(arms) - set(ARMS):
        raise StrokesError(f"unknown arms {', '.join(arms) or '(none)'}: choose from {', '.join(ARMS)}")
    for arm in _AFTER_PROCESS:
        if arm in arms and "process" not in arms:
            raise StrokesError(f"the arm {arm} needs the arm process: give both")


def _arm(name: str, of_process: Sequence[Trial]) -> Arm:
    """The arm of that name. ``of_process`` are the trials of the process, for the arms that need them."""
    if name == "best-of-k":
        return best_of_k({(t.line, t.seed): t.cost.model_calls for t in of_process})
    if name == "shuffled":
        return shuffled(of_process)
    independent: dict[str, Arm] = {
        "one-shot": ways.one_shot,
        "plan-only": ways.plan_only(WHOLE),
        "no-inspect": ways.no_inspect,
        "process": ways.process,
        "oracle": oracle,
    }
    return independent[name]


def _trial(arm: str, task: Task, graph: SceneGraph, outcome: Outcome, seconds: float) -> Trial:
    """The trial of an outcome: what stays of it once its pictures are gone."""
    process = outcome.process
    checked = check(outcome.image, graph) if outcome.image else CheckResult(False, ("nothing was painted",))
    return Trial(
        line=task.line,
        objects=len(graph.objects),
        seed=task.seed,
        arm=arm,
        right=checked.ok,
        reasons=checked.reasons,
        pictures=outcome.pictures,
        cost=replace(outcome.cost, seconds=seconds),
        ended=process.ended if process is not None and arm != "plan-only" else None,
        steps=judge_rounds(process, graph) if process is not None else (),
        own_words=outcome.own_words,
    )


def _share_seconds(paintings: Sequence[Painting], seconds: float) -> list[Painting]:
    """Paintings that ran side by side, with the ``seconds`` of all shared out in proportion to how long each took."""
    scale = seconds / (sum(painting.trial.cost.seconds for painting in paintings) or 1.0)

    def shared(trial: Trial) -> Trial:
        return replace(trial, cost=replace(trial.cost, seconds=trial.cost.seconds * scale))

    return [painting._replace(trial=shared(painting.trial)) for painting in paintings]


def _png(image: Image.Image | None) -> bytes | None:
    """A picture at the size of the sheet of examples. Thousands are held until it is known on which the arms differ."""
    if image is None:
        return None
    image = image.convert("RGB")
    if max(image.size) > TILE:
        image = image.resize((TILE, TILE))
    image.save(png := BytesIO(), "PNG")
    return png.getvalue()


def _examples(tasks: Sequence[Task], paintings: dict[str, list[Painting]]) -> tuple[Example, ...]:
    """Examples of prompts on which one-shot and the process differ; none where the evaluation lacks one of the two."""
    if set(DEFAULT_ARMS) - set(paintings):
        return ()
    pairs = zip(*(paintings[arm] for arm in DEFAULT_ARMS), strict=True)
    differ = [
        Example(task.text, (_open(one.png), _open(two.png)), (one.trial.right, two.trial.right))
        for task, (one, two) in zip(tasks, pairs, strict=True)
        if one.trial.right != two.trial.right
    ]
    return choose(differ)


def _open(png: bytes | None) -> Image.Image | None:
    return Image.open(BytesIO(png), formats=("PNG",)) if png else None

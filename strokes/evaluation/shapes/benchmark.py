"""The shapes benchmark: prompts in, exact match and the process's honesty out, for the process and the arms it is held
against.

The rule-based checker judges afterwards; only the arm "oracle" calls it while it paints. The numbers hold for this small
world and compare with no other benchmark's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import count
from time import perf_counter
from typing import Any, TypeVar

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
# The other arms need what the process did.
_AFTER_PROCESS = ("best-of-k", "shuffled")

# Called after each painting: (paintings finished, paintings in all, prompt). May raise Cancelled.
Progress = Callable[[int, int, str], None]
Result = TypeVar("Result")
Job = Callable[[Painter], Result]
# Runs jobs with a painter, several of them side by side, and gives their results in order.
RunBatched = Callable[[Any, Sequence[Job[Any]]], Iterable[Any]]


def evaluate(
    painter: Painter,
    lines: Sequence[str],
    arms: Sequence[str] = DEFAULT_ARMS,
    *,
    rounds: int | None = None,
    seeds: Sequence[int] = (0,),
    progress: Progress | None = None,
    run_batched: RunBatched | None = None,
) -> Report:
    """Paint the prompt of every line with every arm and every seed, and check the last pictures. All arms share the seed
    of a painting.

    ``rounds`` None gives a process two rounds more than the prompt has objects. Blank lines are skipped; prompts that
    cannot be read are listed in the report. Raises StrokesError for unknown arms or seeds and where no prompt can be read.
    """
    check_arms(arms)
    chosen = tuple(arm for arm in ARMS if arm in arms)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise StrokesError(f"seeds {', '.join(map(str, seeds)) or '(none)'}: give different whole numbers from 0 on")
    if rounds is not None:
        loop.check_rounds(rounds)
    prompts, unread = read_prompts(lines, partial(stages.begin, painter))

    def most(objects: int) -> int:
        return rounds or min(objects + 2, loop.MAX_ROUNDS)

    graphs = {prompt.line: prompt.graph for prompt in prompts}
    tasks = [
        Task(prompt.text, prompt.line, seed, most(len(prompt.graph.objects))) for seed in seeds for prompt in prompts
    ]
    total, finished = len(tasks) * len(chosen), count(1)

    def job(arm: str, paint: Arm, task: Task) -> Job[tuple[Trial, bytes | None]]:
        def paint_one(painter: Painter) -> tuple[Trial, bytes | None]:
            began = perf_counter()
            outcome = paint(painter, task)
            trial = _trial(arm, task.key, graphs[task.line], outcome, perf_counter() - began)
            if progress:
                progress(next(finished), total, task.text)
            return trial, _small(outcome.image) if arm in DEFAULT_ARMS else None

        return paint_one

    trials: dict[str, list[Trial]] = {}
    pictures: dict[str, list[bytes | None]] = {}
    # Whole arms one after the other, the process before those that need it.
    for arm in sorted(chosen, key=lambda arm: arm in _AFTER_PROCESS):
        paint = _way(arm, trials.get("process", []))
        began = perf_counter()
        done = _run(painter, [job(arm, paint, task) for task in tasks], run_batched)
        trials[arm], pictures[arm] = [trial for trial, _ in done], [small for _, small in done]
        if run_batched:
            trials[arm] = _shared(trials[arm], perf_counter() - began)
    every = tuple(trial for arm in chosen for trial in trials[arm])
    examples = _examples(tasks, trials, pictures)
    return Report(chosen, tuple(seeds), tuple(prompts), every, tuple(unread), examples, run_batched is not None)


def check_arms(arms: Sequence[str]) -> None:
    """Raise StrokesError for unknown arms, none, or one without the process that it needs."""
    if not arms or set(arms) - set(ARMS):
        raise StrokesError(f"unknown arms {', '.join(arms) or '(none)'}: choose from {', '.join(ARMS)}")
    for arm in _AFTER_PROCESS:
        if arm in arms and "process" not in arms:
            raise StrokesError(f"the arm {arm} needs the arm process: give both")


def _way(arm: str, of_process: Sequence[Trial]) -> Arm:
    if arm == "best-of-k":
        return best_of_k({(t.line, t.seed): t.cost.model_calls for t in of_process})
    if arm == "shuffled":
        return shuffled(of_process)
    alone: dict[str, Arm] = {
        "one-shot": ways.one_shot,
        "plan-only": ways.plan_only(WHOLE),
        "no-inspect": ways.no_inspect,
        "process": ways.process,
        "oracle": oracle,
    }
    return alone[arm]


def _run(painter: Painter, jobs: Sequence[Job[Result]], run_batched: RunBatched | None) -> list[Result]:
    return list(run_batched(painter, jobs) if run_batched else (job(painter) for job in jobs))


def _trial(arm: str, key: tuple[int, int], graph: SceneGraph, outcome: Outcome, seconds: float) -> Trial:
    """What is kept of an outcome, so that no picture is held."""
    done = outcome.process
    verdict = check(outcome.image, graph) if outcome.image else CheckResult(False, ("nothing was painted",))
    ended = done.ended if done is not None and arm != "plan-only" else None
    steps = judge_rounds(done, graph) if done is not None else ()
    cost = replace(outcome.cost, seconds=seconds)
    line, seed = key
    return Trial(
        line,
        len(graph.objects),
        seed,
        arm,
        verdict.ok,
        verdict.reasons,
        outcome.pictures,
        cost,
        ended,
        steps,
        outcome.own_words,
    )


def _shared(trials: Sequence[Trial], seconds: float) -> list[Trial]:
    """Paintings that waited for each other: the seconds of all are shared out by how long each was under way."""
    scale = seconds / (sum(t.cost.seconds for t in trials) or 1.0)
    return [replace(t, cost=replace(t.cost, seconds=t.cost.seconds * scale)) for t in trials]


def _small(image: Image.Image | None) -> bytes | None:
    """Packed, for the sheet of examples: thousands wait until it is known on which of them the arms differ."""
    if image is None:
        return None
    image = image.convert("RGB")
    if max(image.size) > TILE:
        image = image.resize((TILE, TILE))
    image.save(packed := BytesIO(), "PNG")
    return packed.getvalue()


def _examples(
    tasks: Sequence[Task], trials: dict[str, list[Trial]], pictures: dict[str, list[bytes | None]]
) -> tuple[Example, ...]:
    if set(DEFAULT_ARMS) - set(trials):
        return ()
    ones, twos = (zip(trials[arm], pictures[arm], strict=True) for arm in DEFAULT_ARMS)
    differ: list[tuple[str, tuple[bytes | None, bytes | None], tuple[bool, bool]]] = []
    for task, (one, first), (two, second) in zip(tasks, ones, twos, strict=True):
        if one.right != two.right:
            differ.append((task.text, (first, second), (one.right, two.right)))
    return choose([Example(text, (_open(a), _open(b)), right) for text, (a, b), right in differ])


def _open(packed: bytes | None) -> Image.Image | None:
    return Image.open(BytesIO(packed)) if packed else None

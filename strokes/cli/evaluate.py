"""``strokes evaluate``: benchmarks of what a model paints."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import StrokesError
from ..files import check_regular, write_whole
from ..models import EMBEDDED
from .common import DialectOption, JsonOption, ModelOption, console, open_model

# Shorter than the numbers that Python refuses to read.
_SEED = r"\s*[0-9]{1,1000}\s*"


def evaluate_shapes(
    prompts: Annotated[Path | None, typer.Option(help="A text file, one prompt a line.")] = None,
    arms: Annotated[
        str,
        typer.Option(
            help="Ways of painting, by commas, or all: one-shot, best-of-k, plan-only, no-inspect, process, oracle, shuffled."
        ),
    ] = "one-shot,process",
    model: ModelOption = EMBEDDED,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds at most. [default: shapes in the prompt + 2]", show_default=False)
    ] = None,
    seeds: Annotated[str, typer.Option(help="By commas; every arm paints every prompt once with each.")] = "0",
    examples: Annotated[Path | None, typer.Option(help="Write a PNG of wins and losses side by side.")] = None,
    curve: Annotated[
        Path | None, typer.Option(help="Write a PNG of the inspector's precision over its recall.")
    ] = None,
    make: Annotated[
        int | None,
        typer.Option("--make-prompts", help="Write so many prompts that training never saw to --prompts first."),
    ] = None,
    dialect: DialectOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Paint prompts of the shapes world and let a rule-based checker read the pictures.

    Reports by kind of prompt and by split: seen combinations, held-out pairs of colour and shape, held-out relations,
    and scenes longer by one object than any in training.
    """
    from ..bagel.scheduler import run_batched
    from ..evaluation.shapes import benchmark, tables
    from ..evaluation.shapes.arms import ARMS
    from ..evaluation.shapes.curve import plot_curve
    from ..evaluation.shapes.examples import save_examples
    from ..evaluation.shapes.prompts import write_prompts
    from .terminal import bars

    if prompts is None:
        raise StrokesError("--prompts FILE is missing: a text file with one prompt a line")
    if not re.fullmatch(rf"{_SEED}(,{_SEED})*", seeds):
        raise StrokesError(f"--seeds {seeds}: give whole numbers by commas, such as 0,1,2")
    chosen = tuple(ARMS) if arms.strip() == "all" else tuple(arm.strip() for arm in arms.split(","))
    benchmark.check_arms(chosen)
    for option, path in (("--examples", examples), ("--curve", curve)):
        if path is not None and not path.parent.is_dir():
            raise StrokesError(f"{option} {path}: there is no folder {path.parent}")
    if make is not None:
        _write_new(prompts, "\n".join(write_prompts(make)) + "\n")
    lines = _read(prompts).splitlines()
    painter = open_model(model, dialect)
    with bars(console) as progress:
        task = progress.add_task("paintings", total=None, note="")

        def advance(done: int, total: int, prompt: str) -> None:
            progress.update(task, completed=done, total=total, note=prompt)

        numbers = tuple(map(int, seeds.split(",")))
        scheduler = partial(run_batched, concurrency=64 if painter.device.type == "cpu" else 512)
        report = benchmark.evaluate(
            painter, lines, chosen, rounds=rounds, seeds=numbers, progress=advance, run_batched=scheduler
        )
    print(json.dumps(report.to_json(), indent=1) if as_json else tables.text(report))
    if examples is not None:
        write_whole(examples, lambda path: save_examples(report, path))
    if curve is not None:
        write_whole(curve, lambda path: plot_curve(report.of("process"), path))


def _write_new(path: Path, text: str) -> None:
    """Write a text file. Raises StrokesError where it exists and holds another text."""
    if path.exists() and _read(path) != text:
        raise StrokesError(f"{path} holds other prompts: --make-prompts does not overwrite it")
    write_whole(path, lambda path: path.write_text(text, encoding="utf-8"))


def _read(path: Path) -> str:
    """The content of a UTF-8 text file. Raises StrokesError where it cannot be read."""
    try:
        check_regular(path)
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise StrokesError(f"cannot read {path} ({error})") from None

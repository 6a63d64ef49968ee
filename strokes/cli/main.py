"""The command ``strokes``: paint, show, check, train and evaluate. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console

from ..errors import Cancelled, StrokesError
from ..files import write_whole

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Paint a picture in strokes: plan, sketch, inspect and refine, round after round.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train a model.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure what a model paints.")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
console = Console(stderr=True)

EMBEDDED = Path(__file__).parents[1] / "embedded"

ModelOption = Annotated[
    Path,
    typer.Option(
        "--model",
        help="A model folder like BAGEL-7B-MoT's. [default: the small model that ships along]",
        show_default=False,
    ),
]
SeedOption = Annotated[int, typer.Option(help="Same seed, same pictures.", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def main() -> None:
    """Entry point: bad input ends in one line and status 2, Ctrl-C in 130."""
    try:
        status = app(standalone_mode=False)
    except StrokesError as error:
        status = _fail(str(error))
    except OSError as error:
        status = _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except (KeyboardInterrupt, Cancelled, click.exceptions.Abort):
        console.print("stopped")
        status = 130
    except click.exceptions.ClickException as error:
        error.show()
        status = error.exit_code
    sys.exit(status or 0)


def _fail(reason: str) -> int:
    console.print(f"[bold red]error:[/bold red] {_escaped(reason)}", highlight=False, soft_wrap=True)
    return 2


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(" ".join(text.split()))


def _painter(model: Path, steps: int | None = None) -> Any:
    """The model behind a painter, on a GPU where there is one; ``steps`` replaces what its profile says."""
    from dataclasses import replace

    import torch

    from ..bagel.painter import BagelPainter
    from ..bagel.weights.checkpoint import load

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with console.status(f"loading {model.name}"):
        try:
            checkpoint = load(model, device)
        except torch.OutOfMemoryError:
            raise StrokesError(f"{model} does not fit the GPU's memory: free some, or hide the GPU") from None
    if steps is not None:
        profile = checkpoint.profile
        first, edit = (replace(settings, steps=steps) for settings in (profile.first, profile.edit))
        checkpoint.profile = replace(profile, first=first, edit=edit)
    return BagelPainter(checkpoint)


def parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip().lower())
    if not match:
        raise StrokesError(f"--size {text}: write width x height in pixels, such as 1024x768")
    return int(match.group(1)), int(match.group(2))


def _new_folder(out: Path | None, prompt: str) -> Path:
    """A folder that did not hold anything: the one asked for, or a numbered one under ``out``."""
    if out is None:
        name = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40] or "picture"
        taken = {path.name for path in Path("out").glob(f"{name}*")}
        number = 1
        while (folder := name if number == 1 else f"{name}-{number}") in taken:
            number += 1
        out = Path("out") / folder
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StrokesError(f"--out {out} exists already: choose another folder, or remove it first")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StrokesError(f"cannot write to {out} ({error.strerror}): choose another --out") from None
    return out


@app.command()
def paint(
    prompt: Annotated[str, typer.Argument(help="What to paint.")],
    image: Annotated[Path | None, typer.Option(help="A picture to start from.")] = None,
    model: ModelOption = EMBEDDED,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds at most. [default: what suits the model]", show_default=False)
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Canvas in pixels. [default: what suits the model]", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Model calls a picture. [default: what suits the model]", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the results. [default: out/PROMPT]", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Paint PROMPT step by step and keep every turn.

    The output folder holds the picture of every turn, the contact sheet sheet.png, the page index.html and
    trajectory.json, which `strokes show` and the nodes open again.
    """
    from ..process import loop, stages

    canvas = parse_size(size) if size else None
    if rounds is not None:
        loop.check_rounds(rounds)
    if steps is not None and not 1 <= steps <= 1000:
        raise StrokesError(f"--steps {steps}: choose from 1 to 1000 model calls")
    start = None
    if image is not None:
        from ..process.pictures import open_image

        start = open_image(str(image))
    painter = _painter(model, steps)
    trajectory = stages.begin(painter, prompt, canvas, start)
    folder = _new_folder(out, prompt)

    from ..process.store import save
    from .terminal import PaintScreen

    path = save(trajectory, folder)
    latest = trajectory

    def keep(now) -> None:
        nonlocal latest
        latest = now
        save(now, folder)

    try:
        with PaintScreen(console, keep).showing() as screen:
            loop.run(painter, trajectory, rounds or painter.profile.rounds, seed=seed, events=screen.events)
    except (KeyboardInterrupt, Cancelled):
        save(latest, folder)
        _write_views(latest, folder)
        console.print(f"stopped; everything finished so far is in {folder}")
        raise typer.Exit(130) from None
    _write_views(latest, folder)
    cost, counts = latest.cost, painter.memo.counts
    console.print(
        f"{len(latest.rounds)} rounds, {cost.model_calls} model calls, {cost.tokens} tokens, {cost.seconds:.1f} s; "
        f"{counts.prefilled} segments prefilled, {counts.reused} reused. See {folder / 'sheet.png'}",
        highlight=False,
    )
    if as_json:
        result = {
            "trajectory": str(path),
            "sheet": str(folder / "sheet.png"),
            "rounds": len(latest.rounds),
            "ended": latest.ended,
            "model_calls": cost.model_calls,
            "tokens": cost.tokens,
            "seconds": round(cost.seconds, 3),
        }
        print(json.dumps(result))


def _write_views(trajectory, folder: Path) -> tuple[Path, Path]:
    """The contact sheet and the page, each written whole or not at all."""
    from ..process.sheet import contact_sheet, html_page

    sheet, page = folder / "sheet.png", folder / "index.html"
    write_whole(sheet, lambda path: contact_sheet(trajectory).save(path, format="PNG"))
    write_whole(page, lambda path: path.write_text(html_page(trajectory), encoding="utf-8"))
    return sheet, page


@app.command()
def show(
    trajectory: Annotated[Path, typer.Argument(help="A trajectory.json or the folder that holds it.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. [default: beside the trajectory]", show_default=False)
    ] = None,
) -> None:
    """Make the contact sheet (PNG) and one self-contained HTML page of a saved trajectory."""
    from ..process.store import load

    loaded = load(trajectory)
    folder = out or (trajectory if trajectory.is_dir() else trajectory.parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StrokesError(f"cannot write to {folder} ({error.strerror}): choose another --out") from None
    for path in _write_views(loaded, folder):
        print(path)


@app.command()
def parity(
    folder: Annotated[Path, typer.Argument(help="A golden folder: model, inputs and the reference's outputs.")],
) -> None:
    """Compare the engine with a folder of reference tensors; fails on any miss."""
    from ..bagel.parity.compare import compare_folder, format_table

    rows = compare_folder(folder)
    print(format_table(rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(1)


OutOption = Annotated[Path, typer.Option("--out", help="Folder for the run; run again, it goes on there.")]
PresetOption = Annotated[str, typer.Option(help="cpu (overnight), small (five minutes), gpu or toy (seconds).")]
DeviceOption = Annotated[str, typer.Option(help="cpu, or cuda for the GPUs that accelerate finds.")]


def _accelerator(device: str) -> Any:
    """Raises StrokesError where the packages for training or the device are missing."""
    try:
        import matplotlib  # noqa: F401
        import torch
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    except ImportError as error:
        raise StrokesError(f'training needs {error.name}: pip install -e ".[train]" brings it') from None
    handlers = [
        # A process whose part of a batch has no picture to look at uses no vision model.
        DistributedDataParallelKwargs(find_unused_parameters=True),
        # The others wait while one makes the data.
        InitProcessGroupKwargs(timeout=timedelta(days=1)),
    ]
    if device == "cpu":
        return Accelerator(cpu=True, kwargs_handlers=handlers)
    if device != "cuda" or not torch.cuda.is_available():
        raise StrokesError(
            f"--device {device}: not there; choose cpu" + (" or cuda" if torch.cuda.is_available() else "")
        )
    return Accelerator(mixed_precision="bf16", kwargs_handlers=handlers)


@contextmanager
def _parts() -> Iterator[Any]:
    """A bar for each part of a training run, with its losses."""
    from .terminal import bars

    with bars(console) as progress:
        tasks: dict[str, Any] = {}

        def report(part: str, done: int, of: int, losses: dict[str, float]) -> None:
            if part not in tasks:
                tasks[part] = progress.add_task(part, total=of, note="")
            note = "  ".join(f"{k} {v:.3f}" for k, v in losses.items() if k not in ("rows", "seconds", "norm"))
            progress.update(tasks[part], completed=done, note=note)

        yield report


@train_app.command("embedded")
def train_embedded_command(
    out: OutOption = Path("out/embedded"),
    preset: PresetOption = "cpu",
    steps: Annotated[int | None, typer.Option(help="Another length of the first stage.", min=1)] = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
) -> None:
    """Train the small model from nothing: autoencoder, data, the network on it, its own pictures judged, and once more.

    Cut off and run again, it goes on where it was.
    """
    accelerator = _accelerator(device)
    from ..recipes.embedded import PRESETS, EmbeddedRun, with_steps

    if preset not in PRESETS:
        raise StrokesError(f"--preset {preset}: choose one of {', '.join(PRESETS)}")
    chosen = with_steps(PRESETS[preset], steps) if steps else PRESETS[preset]
    with _parts() as report:
        folder = EmbeddedRun(out, chosen, seed, accelerator, report)()
    if accelerator.is_main_process:
        print(folder)


@train_app.command("ablations")
def train_ablations_command(
    out: OutOption = Path("out/ablations"),
    preset: PresetOption = "cpu",
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
) -> None:
    """Train and measure the paper's ablations in miniature: one base, tuned on data that lacks one thing each.

    The folder ends with table.md, table.json and plot.png. Cut off and run again, it goes on where it was.
    """
    accelerator = _accelerator(device)
    from ..recipes.ablations import PRESETS, AblationRun

    if preset not in PRESETS:
        raise StrokesError(f"--preset {preset}: choose one of {', '.join(PRESETS)}")
    with _parts() as report:
        folder = AblationRun(out, PRESETS[preset], seed, accelerator, report)()
    if accelerator.is_main_process:
        print((folder / "table.md").read_text())


@evaluate_app.command("shapes")
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
    make: Annotated[
        int | None,
        typer.Option("--make-prompts", help="Write so many prompts that training never saw to --prompts first."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Paint prompts of the shapes world and let a rule-based checker read the pictures.

    Reports by kind of prompt and by split: seen combinations, held-out pairs of colour and shape, held-out relations,
    and scenes longer by one object than any in training.
    """
    from ..bagel.scheduler import together
    from ..evaluation.shapes import benchmark as shapes
    from ..evaluation.shapes import examples as sheet
    from ..evaluation.shapes import tables
    from ..evaluation.shapes.arms import ARMS
    from ..evaluation.shapes.prompts import write_prompts
    from .terminal import bars

    if prompts is None:
        raise StrokesError("--prompts FILE is missing: a text file with one prompt a line")
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", seeds):
        raise StrokesError(f"--seeds {seeds}: give whole numbers by commas, such as 0,1,2")
    chosen = tuple(ARMS) if arms.strip() == "all" else tuple(arm.strip() for arm in arms.split(","))
    shapes.check_arms(chosen)
    if examples is not None and not examples.parent.is_dir():
        raise StrokesError(f"--examples {examples}: there is no folder {examples.parent}")
    if make is not None:
        text = "\n".join(write_prompts(make)) + "\n"
        if prompts.exists() and prompts.read_bytes() != text.encode():
            raise StrokesError(f"{prompts} holds other prompts: --make-prompts does not overwrite it")
        write_whole(prompts, lambda path: path.write_text(text, encoding="utf-8"))
    try:
        lines = prompts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StrokesError(f"cannot read {prompts} ({error})") from None
    painter = _painter(model)
    with bars(console) as progress:
        task = progress.add_task("paintings", total=None, note="")

        def advance(done: int, total: int, prompt: str) -> None:
            progress.update(task, completed=done, total=total, note=prompt)

        numbers = tuple(map(int, seeds.split(",")))
        crowd = partial(together, width=64 if painter.runner.device.type == "cpu" else 512)
        report = shapes.evaluate(painter, lines, chosen, rounds=rounds, seeds=numbers, progress=advance, together=crowd)
    print(json.dumps(report.to_json(), indent=1) if as_json else tables.text(report))
    if examples is not None:
        write_whole(examples, lambda path: sheet.save_examples(report, path))

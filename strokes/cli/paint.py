"""``strokes paint`` and ``strokes show``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import Cancelled, StrokesError
from ..files import write_whole
from ..models import EMBEDDED
from .common import DialectOption, JsonOption, ModelOption, SeedOption, console, open_model

if TYPE_CHECKING:
    from ..bagel.painter import PrefixCacheCounts
    from ..process.dialects.protocol import Dialect
    from ..process.loop import StageSettings
    from ..process.trajectory import Trajectory

SHEET = "sheet.png"


def parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})[x×]([0-9]{1,9})", text.strip().lower())
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
    keep_best: Annotated[
        bool,
        typer.Option(
            "--keep-best", help="Keep a repainted picture only where the model's verdict on it is better than before."
        ),
    ] = False,
    dialect: DialectOption = "auto",
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
    from ..process.pictures import open_image

    canvas = parse_size(size) if size else None
    if rounds is not None:
        loop.check_rounds(rounds)
    settings = replace(_settings(steps), keep_best=keep_best)
    start = None if image is None else open_image(str(image))
    painter = open_model(model, dialect)
    begun = stages.begin(painter, prompt, canvas, start)
    folder = _new_folder(out, prompt)
    work = partial(loop.run, painter, begun, rounds or painter.profile.rounds, seed=seed, settings=settings)
    done = _run_and_save(work, begun, folder, painter.dialect)
    _summarise(done, painter.counts, folder)
    if as_json:
        print(json.dumps(_result(done, folder)))


def _settings(steps: int | None) -> StageSettings:
    """What --steps says, for every picture. Raises StrokesError out of its range."""
    from ..process.loop import StageSettings
    from ..process.settings import PaintOverrides

    if steps is not None and not 1 <= steps <= 1000:
        raise StrokesError(f"--steps {steps}: choose from 1 to 1000 model calls")
    return StageSettings(sketch=PaintOverrides(steps=steps), refine=PaintOverrides(steps=steps))


def _run_and_save(work: Callable[..., Trajectory], begun: Trajectory, folder: Path, dialect: Dialect) -> Trajectory:
    """Show a run on the terminal and save it turn by turn; where it is stopped, what is finished is kept."""
    from ..process.store import save
    from .terminal import PaintScreen

    latest = begun
    save(begun, folder)

    def keep(now: Trajectory) -> None:
        nonlocal latest
        latest = now
        save(now, folder)

    try:
        with PaintScreen(console, keep, dialect).showing() as screen:
            work(events=screen.events)
    except (KeyboardInterrupt, Cancelled):
        save(latest, folder)
        _write_views(latest, folder)
        console.print(f"stopped; everything finished so far is in {folder}")
        raise typer.Exit(130) from None
    _write_views(latest, folder)
    return latest


def _summarise(done: Trajectory, counts: PrefixCacheCounts, folder: Path) -> None:
    from ..process.wording import cost_line

    console.print(
        f"{len(done.rounds)} rounds, {cost_line(done)}; "
        f"{counts.prefilled} segments prefilled, {counts.reused} reused. See {folder / SHEET}",
        highlight=False,
    )


def _result(done: Trajectory, folder: Path) -> dict[str, str | int | float | bool]:
    """What --json prints."""
    from ..process.store import DOCUMENT

    return {
        "trajectory": str(folder / DOCUMENT),
        "sheet": str(folder / SHEET),
        "rounds": len(done.rounds),
        "ended": done.ended,
        "model_calls": done.cost.model_calls,
        "tokens": done.cost.tokens,
        "scored": done.cost.scored,
        "seconds": round(done.cost.seconds, 3),
    }


def _write_views(trajectory: Trajectory, folder: Path) -> tuple[Path, Path]:
    """The contact sheet and the page, each written whole or not at all."""
    from ..process.sheet import contact_sheet
    from ..viewer.page import html_page

    sheet, page = folder / SHEET, folder / "index.html"
    write_whole(sheet, lambda path: contact_sheet(trajectory).save(path, format="PNG"))
    write_whole(page, lambda path: path.write_text(html_page(trajectory), encoding="utf-8"))
    return sheet, page


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

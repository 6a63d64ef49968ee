"""The command ``strokes``: its subcommands, and how errors end. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
from typing import cast

import typer
from rich.markup import escape

from ..errors import Cancelled, StrokesError
from .check import check
from .common import console
from .evaluate import evaluate_shapes
from .paint import paint, show
from .parity import parity
from .train import train_ablations_command, train_embedded_command

# The class of every error in a command line: typer's own from 0.29 on, click's before. Neither has a public name in
# both, but BadParameter, one of its subclasses, has.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


def help_alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def group(text: str) -> typer.Typer:
    """A command group; called without a subcommand, it prints its help and ends with status 2."""
    made = typer.Typer(help=text, add_completion=False, pretty_exceptions_enable=False)
    made.callback(invoke_without_command=True)(help_alone)
    return made


app = group("Paint a picture in strokes: plan, sketch, inspect and refine, round after round.")
train_app = group("Train a model.")
evaluate_app = group("Measure what a model paints.")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
for command in (paint, show, check, parity):
    app.command()(command)
train_app.command("embedded")(train_embedded_command)
train_app.command("ablations")(train_ablations_command)
evaluate_app.command("shapes")(evaluate_shapes)


def main() -> None:
    """Entry point: bad input ends in one line and status 2, Ctrl-C in status 130."""
    try:
        status = app(standalone_mode=False)
    except StrokesError as error:
        status = _fail(str(error))
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "strokes"
        status = _fail(f"{error.format_message().rstrip('.')}; {command} --help says what it takes")
    except OSError as error:
        status = _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        console.print("stopped")
        status = 130
    sys.exit(status or 0)


def _fail(reason: str) -> int:
    console.print(f"[bold red]error:[/bold red] {escape(' '.join(reason.split()))}", highlight=False, soft_wrap=True)
    return 2

"""The command ``strokes``: its subcommands, and how errors end. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys

import click
import typer

from ..errors import Cancelled, StrokesError
from .common import console
from .evaluate import evaluate_shapes
from .paint import paint, show
from .parity import parity
from .train import train_ablations_command, train_embedded_command

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
for command in (paint, show, parity):
    app.command()(command)
train_app.command("embedded")(train_embedded_command)
train_app.command("ablations")(train_ablations_command)
evaluate_app.command("shapes")(evaluate_shapes)


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

"""What several commands share: the console, their common options, and opening the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from ..bagel.painter import BagelPainter

console = Console(stderr=True)

ModelOption = Annotated[
    Path,
    typer.Option(
        "--model",
        help="A model folder like BAGEL-7B-MoT's. [default: the small model that ships along]",
        show_default=False,
    ),
]

DialectOption = Annotated[
    str,
    typer.Option(
        "--dialect",
        help="How the model is spoken to: plain, paper, miniature, reflection, uni-cot, or the name of a file in the folder "
        "dialects beside the model's. auto: what the model says, else by its folder's name.",
    ),
]

SeedOption = Annotated[int, typer.Option(help="Same seed, same pictures.", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def open_model(model: Path, dialect: str = "auto") -> BagelPainter:
    """The painter of a model folder, on a GPU where there is one."""
    import torch

    from ..models import open_painter

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with console.status(f"loading {model.name}"):
        return open_painter(model, device, dialect=dialect)

"""What several commands share: the console, their common options, and opening the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console(stderr=True)

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


def open_model(model: Path, steps: int | None = None) -> Any:
    """The model behind a painter, on a GPU where there is one; ``steps`` replaces what its profile says."""
    from dataclasses import replace

    import torch

    from ..models import open_painter

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with console.status(f"loading {model.name}"):
        painter = open_painter(model, device)
    if steps is not None:
        profile = painter.profile
        first, edit = (replace(settings, steps=steps) for settings in (profile.first, profile.edit))
        painter.checkpoint.profile = replace(profile, first=first, edit=edit)
    return painter

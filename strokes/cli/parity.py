"""``strokes parity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def parity(
    folder: Annotated[Path, typer.Argument(help="A golden folder: model, inputs and the reference's outputs.")],
) -> None:
    """Compare the engine with a folder of reference tensors; fails on any miss."""
    from ..bagel.parity.compare import compare_folder, format_table

    rows = compare_folder(folder)
    print(format_table(rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(1)

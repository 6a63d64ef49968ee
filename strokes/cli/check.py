"""``strokes check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..errors import StrokesError
from .common import JsonOption


def check(
    path: Annotated[Path, typer.Argument(help="A model folder, or one file of weights.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a model folder or file is, what is missing and what it would take, without opening it.

    Ends with status 2 where the model would not open.
    """
    from ..models import summarise

    try:
        found = summarise(path)
    except StrokesError as error:
        if not as_json:
            raise
        found = {"opens": False, "reason": str(error)}
    if as_json:
        print(json.dumps(found))
    else:
        Console().print(_table(found), highlight=False)
    if not found["opens"]:
        if as_json:
            raise typer.Exit(2)
        raise StrokesError(found["reason"])


def _table(found: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, title=found["weights"], title_justify="left")
    for name, value in _rows(found).items():
        table.add_row(name, value)
    return table


def _rows(found: dict[str, Any]) -> dict[str, str]:
    memory, formats = found["memory"], found["formats"]
    stored = [f"{dtype} {_bytes(size)}" for dtype, size in found["dtypes"].items()]
    return {
        "kind": f"{found['kind']}: {found['about']}" + (f" ({found['files']} files)" if found["files"] > 1 else ""),
        **({"layers' formats": ", ".join(f"{name} × {count}" for name, count in formats.items())} if formats else {}),
        "name": found["name"],
        "dialect": found["dialect"] or "-",
        "network": f"{_count(found['parameters'])} parameters, {found['layers']} layers of width {found['width']}, "
        f"{found['heads']} heads",
        "vocabulary": str(found["vocabulary"]),
        "vision": f"{found['vision_layers']} layers" if found["vision_layers"] else "none",
        "largest canvas": f"{found['max_side']} pixels a side",
        "stored as": ", ".join(stored),
        "autoencoder": found["autoencoder"] or "missing",
        "tokenizer": found["tokenizer"] or "missing",
        "missing": "; ".join(f"{part['what']} ({part['costs']})" for part in found["missing"]) or "nothing",
        "memory": f"network {_bytes(memory['stored'])} as stored, {_bytes(memory['bfloat16'])} in bfloat16; "
        f"autoencoder {_bytes(memory['autoencoder'])} in float32",
    }


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.3g} billion" if parameters >= 1e9 else f"{parameters / 1e6:.3g} million"


def _bytes(size: int) -> str:
    """A size in decimal units, as download pages give it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"

"""The sheet of examples: a PNG of prompts on which one-shot and the process differ, their pictures side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .report import Example, Report

MAX_EXAMPLES = 12
TILE = 192


def choose(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Up to twelve examples: wins of the process before its losses, half of each where there are enough, evenly spaced
    among all of their kind."""
    wins, losses = ([e for e in examples if e.right[1] == won] for won in (True, False))
    half = MAX_EXAMPLES // 2
    chosen: list[Example] = []
    for side, other in ((wins, losses), (losses, wins)):
        count = min(len(side), max(half, MAX_EXAMPLES - len(other)))
        chosen += [side[i * len(side) // count] for i in range(count)]
    return tuple(chosen)


def save_examples(report: Report, path: str | Path) -> int:
    """Write a PNG sheet of a report's examples and return how many it shows. Without any, the sheet says so."""
    shown = report.examples
    gap, text = 12, 66
    width, height = 2 * TILE + 3 * gap, TILE + text + 2 * gap
    columns, rows = max(1, min(3, len(shown))), max(1, -(-len(shown) // 3))
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    if not shown:
        draw.text((gap, gap), "There is no prompt on which the arms differ.", font=font, fill="#1d1d1f")
    for i, example in enumerate(shown):
        left, top = i % columns * width + gap, i // columns * height + gap
        lines = textwrap.wrap(example.prompt, 60, max_lines=3)
        draw.multiline_text((left, top), "\n".join(lines), font=font, fill="#1d1d1f")
        sides_of = zip(("one-shot", "process"), example.pictures, example.right, strict=True)
        for j, (arm, image, right) in enumerate(sides_of):
            x, y = left + j * (TILE + gap), top + text
            colour = "#1f7a4d" if right else "#b25a00"
            draw.text((x, y - 17), f"{arm}: {'right' if right else 'wrong'}", font=font, fill=colour)
            if image:
                sheet.paste(image.convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST), (x, y))
            else:
                draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline="#b25a00")
    sheet.save(path, "PNG")
    return len(shown)

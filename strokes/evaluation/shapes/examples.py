"""The picture of wins and losses: prompts on which one-shot and the process differ, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .report import Example, Report

MAX_EXAMPLES = 12
TILE = 192


def choose(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Up to twelve wins of the process, then up to twelve losses, each evenly from all of them."""
    chosen: list[Example] = []
    for won in (True, False):
        side = [e for e in examples if e.right[1] == won]
        count = min(len(side), MAX_EXAMPLES)
        chosen += [side[i * len(side) // count] for i in range(count)]
    return tuple(chosen)


def save_examples(report: Report, path: str | Path) -> int:
    """Write a PNG sheet of up to twelve prompts on which the arms differ, wins of the process before its losses.

    Returns how many it shows; where the arms never differ, the sheet says so.
    """
    sides = [[e for e in report.examples if e.right[1] == won] for won in (True, False)]
    half = MAX_EXAMPLES // 2
    room = [max(half, MAX_EXAMPLES - len(other)) for other in reversed(sides)]
    shown = [e for side, most in zip(sides, room, strict=True) for e in side[:most]]
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

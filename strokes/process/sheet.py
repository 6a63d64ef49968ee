"""The contact sheet of a trajectory: an image with one row per round."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .pictures import Picture
from .trajectory import Critique, Origin, Round, Trajectory

# Bounds on what is drawn: pixels of all rows together, and characters and lines of one text.
MAX_HEIGHT, MAX_CHARACTERS, MAX_LINES = 30_000, 2_000, 120
TILE, _TEXT, _GAP, _MARGIN = 256, 256, 20, 28
_INK, _FAINT, _LINE, _PAPER = "#1d1d1f", "#75757a", "#e2e2e5", "#ffffff"
_GREEN, _AMBER = "#1f7a4d", "#b25a00"
_COLUMNS = [_MARGIN, _MARGIN + _TEXT + _GAP, _MARGIN + _TEXT + TILE + 2 * _GAP, _MARGIN + 2 * _TEXT + TILE + 3 * _GAP]
_WIDTH = _COLUMNS[3] + TILE + _MARGIN


def outcome(trajectory: Trajectory) -> str:
    """How the process ended, in one sentence."""
    rounds = len(trajectory.rounds)
    after = f"after {rounds} round{'' if rounds == 1 else 's'}"
    if trajectory.end:
        by_hand = trajectory.end.origin.author == "user"
        return f"{'Stopped by hand' if by_hand else 'The model planned no more'} {after}."
    if trajectory.ended:
        return f"Finished {after}."
    return f"Not finished: {trajectory.stage} comes next in round {trajectory.round_index + 1}."


def contact_sheet(trajectory: Trajectory) -> Image.Image:
    """An RGB image, about 1140 pixels wide: plan, sketch, critique and refined picture of every round.

    Texts beyond 2,000 characters are shown shortened; of more rounds than fit :data:`MAX_HEIGHT`, the first and the last.
    """
    title = _wrapped(trajectory.prompt, 24, _INK, _WIDTH - 2 * _MARGIN)
    rows = _rows(trajectory)
    heights = [_row_height(row) for row in rows]
    top = _MARGIN + _height(title) + _GAP
    sheet = Image.new("RGB", (_WIDTH, top + sum(heights) + _GAP + _MARGIN + 18), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw(sheet, draw, title, _MARGIN, _MARGIN)
    for row, height in zip(rows, heights, strict=True):
        draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill=_LINE)
        for cell, left in zip(row, _COLUMNS, strict=True):
            _draw(sheet, draw, cell, left, top + _GAP)
        top += height
    draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill=_LINE)
    footer = f"{outcome(trajectory)}  {cost_line(trajectory)}"
    _draw(sheet, draw, _wrapped(footer, 14, _FAINT, _WIDTH - 2 * _MARGIN), _MARGIN, top + _GAP)
    return sheet


def shortened(text: str, most: int) -> str:
    """The first ``most`` characters of a text, and how many more there are."""
    return text if len(text) <= most else f"{text[:most].rstrip()} … and {len(text) - most:,} more characters"


@dataclass(frozen=True)
class _Line:
    text: str
    size: int
    color: str
    chip: bool = False

    @property
    def height(self) -> int:
        return round(self.size * 1.4) + (10 if self.chip else 0)


_Cell = list[_Line] | Picture | None
_Row = list[_Cell]


def _rows(trajectory: Trajectory) -> list[_Row]:
    """A row a round, from both ends of the trajectory for as long as there is room; a label stands for those left out."""
    start: list[_Row] = [[_label("START"), trajectory.start, [], None]] if trajectory.start else []
    rounds = trajectory.rounds
    first: list[_Row] = []
    last: list[_Row] = []
    room = MAX_HEIGHT
    while len(first) + len(last) < len(rounds):
        from_end = len(last) <= len(first)
        number = len(rounds) - len(last) if from_end else len(first) + 1
        row = _row(rounds[number - 1], number)
        room -= _row_height(row)
        if room < 0 and last:
            left_out = len(rounds) - len(first) - len(last)
            return [*start, *first, [_label(f"… {left_out:,} rounds left out"), None, [], None], *reversed(last)]
        (last if from_end else first).append(row)
    return [*start, *first, *reversed(last)]


def _row_height(row: _Row) -> int:
    return max(_height(cell) for cell in row) + 2 * _GAP


def _row(round_: Round, number: int) -> list[_Cell]:
    plan = _label(f"ROUND {number}{_by_hand(round_.plan.origin)}") + _wrapped(round_.plan.instruction, 17, _INK)
    plan += _wrapped(round_.plan.description, 14, _FAINT) + _wrapped(round_.plan.problem, 13, _AMBER)
    critique: list[_Line] = []
    if round_.critique:
        critique = [_Line(*_verdict(round_.critique), chip=True), *_wrapped(round_.critique.explanation, 14, _FAINT)]
        critique += _wrapped(round_.critique.correction, 17, _INK) + _wrapped(round_.critique.problem, 13, _AMBER)
    refined: _Cell = round_.refinement.picture if round_.refinement else None
    if round_.refinement and refined is None:
        refined = _label("Accepted, nothing repainted")
    return [plan, round_.sketch.picture if round_.sketch else None, critique, refined]


def _verdict(critique: Critique) -> tuple[str, int, str]:
    word, color = ("ACCEPTED", _GREEN) if critique.accepted else ("TO CORRECT", _AMBER)
    return word + _by_hand(critique.origin), 13, color


def _by_hand(origin: Origin) -> str:
    return " · BY HAND" if origin.author == "user" else ""


def _label(text: str) -> list[_Line]:
    return [_Line(text, 13, _FAINT)]


def _wrapped(text: str, size: int, color: str, width: int = _TEXT) -> list[_Line]:
    """Lines no wider than ``width`` pixels, at most :data:`MAX_LINES`; words that are wider by themselves are cut."""
    font, lines = ImageFont.load_default(size), list[str]()
    for paragraph in shortened(text, MAX_CHARACTERS).splitlines():
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") > width:
                lines.append(line)
                line = ""
            line = f"{line} {word}" if line else word
            while font.getlength(line) > width:
                fits = next(n for n in range(1, len(line)) if font.getlength(line[: n + 1]) > width)
                lines.append(line[:fits])
                line = line[fits:]
        lines += [line] if line else []
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"… and {len(lines) - MAX_LINES:,} more lines"]
    return [_Line(line, size, color) for line in lines]


def _height(cell: _Cell) -> int:
    if isinstance(cell, Picture):
        return _tile_size(cell)[1]
    return sum(line.height for line in cell or [])


def _tile_size(picture: Picture) -> tuple[int, int]:
    width, height = picture.image.size
    scale = TILE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, left: int, top: int) -> None:
    if isinstance(cell, Picture):
        # Few pixels stay pixels when enlarged; a photograph is resampled.
        small = max(cell.image.size) <= TILE // 2
        method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        sheet.paste(cell.image.convert("RGB").resize(_tile_size(cell), method), (left, top))
        return
    for line in cell or []:
        font, indent = ImageFont.load_default(line.size), 0
        if line.chip:
            box = (left, top, left + font.getlength(line.text) + 16, top + line.height - 6)
            draw.rounded_rectangle(box, radius=6, fill=line.color)
            indent = 8
        text_top = top + 2 if line.chip else top
        draw.text((left + indent, text_top), line.text, font=font, fill=_PAPER if line.chip else line.color)
        top += line.height


def origin_line(origin: Origin) -> str:
    parts = ["by hand" if origin.author == "user" else "model"]
    parts += [f"seed {origin.seed}"] if origin.seed is not None else []
    parts += [f"{origin.cost.model_calls} calls"] if origin.cost.model_calls else []
    parts += [f"{origin.cost.tokens} tokens"] if origin.cost.tokens else []
    parts += [f"{origin.cost.seconds:.1f} s"] if origin.cost.seconds else []
    return " · ".join(parts)


def cost_line(trajectory: Trajectory) -> str:
    cost = trajectory.cost
    return f"{cost.model_calls} model calls, {cost.tokens} tokens, {cost.seconds:.1f} s"

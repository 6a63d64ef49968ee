"""The contact sheet of a trajectory: an image with one row per round."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .pictures import Picture
from .trajectory import Critique, Origin, Round, Trajectory
from .wording import LOOKS_AGAIN, closing, cost_line, cost_of, outcome, shortened, verdict

# Bounds on what is drawn: pixels of all rows together, and characters and lines of one text.
MAX_HEIGHT, MAX_CHARACTERS, MAX_LINES = 30_000, 2_000, 120
TILE, _TEXT, _GAP, _MARGIN, _BELOW = 256, 256, 20, 28, 6
_INK, _FAINT, _LINE, _PAPER = "#1d1d1f", "#75757a", "#e2e2e5", "#ffffff"
_GREEN, _AMBER = "#1f7a4d", "#b25a00"
_COLUMNS = [_MARGIN, _MARGIN + _TEXT + _GAP, _MARGIN + _TEXT + TILE + 2 * _GAP, _MARGIN + 2 * _TEXT + TILE + 3 * _GAP]
_WIDTH = _COLUMNS[3] + TILE + _MARGIN


def contact_sheet(trajectory: Trajectory) -> Image.Image:
    """An RGB image, about 1140 pixels wide: plan, sketch, critique and refined picture of every round.

    Texts beyond 2,000 characters are shown shortened; of more rounds than fit :data:`MAX_HEIGHT`, the first and the last.
    """
    title = _Cell(_wrapped(trajectory.prompt, 24, _INK, _WIDTH - 2 * _MARGIN))
    rows = _rows(trajectory)
    heights = [_row_height(row) for row in rows]
    top = _MARGIN + title.height + _GAP
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
    _draw(sheet, draw, _Cell(_wrapped(footer, 14, _FAINT, _WIDTH - 2 * _MARGIN)), _MARGIN, top + _GAP)
    return sheet


@dataclass(frozen=True)
class _Line:
    text: str
    size: int
    color: str
    chip: bool = False

    @property
    def height(self) -> int:
        return round(self.size * 1.4) + (10 if self.chip else 0)


@dataclass(frozen=True)
class _Cell:
    """A picture, where there is one, and lines of text below it."""

    lines: list[_Line]
    picture: Picture | None = None

    @property
    def height(self) -> int:
        lines = sum(line.height for line in self.lines)
        return lines + (_tile_size(self.picture)[1] + _BELOW if self.picture else 0)


_Row = list[_Cell]


def _rows(trajectory: Trajectory) -> list[_Row]:
    """A row a round, from both ends of the trajectory for as long as there is room; a label stands for those left out."""
    empty = _Cell([])
    start: list[_Row] = [[_label("START"), _Cell([], trajectory.start), empty, empty]] if trajectory.start else []
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
            return [*start, *first, [_label(f"… {left_out:,} rounds left out"), empty, empty, empty], *reversed(last)]
        (last if from_end else first).append(row)
    return [*start, *first, *reversed(last)]


def _row_height(row: _Row) -> int:
    return max(cell.height for cell in row) + 2 * _GAP


def _row(round_: Round, number: int) -> list[_Cell]:
    plan, sketch, critique, refinement = round_.plan, round_.sketch, round_.critique, round_.refinement
    cells = [_label(f"ROUND {number}"), _Cell([]), _Cell([]), _Cell([])]
    if plan:
        said = _wrapped(plan.instruction, 17, _INK) + _wrapped(plan.description, 14, _FAINT)
        title = _label(f"ROUND {number}{_by_hand(plan.origin)}").lines
        cells[0] = _Cell(title + said + _wrapped(plan.problem, 13, _AMBER) + _cost(plan.origin))
    elif not sketch:
        cells[0] = _Cell([*cells[0].lines, *_wrapped(LOOKS_AGAIN, 14, _FAINT)])
    if sketch:
        cells[1] = _Cell(_cost(sketch.origin), sketch.picture)
    if critique:
        said = _wrapped(critique.explanation, 14, _FAINT) + _wrapped(critique.correction, 17, _INK)
        cells[2] = _Cell([_verdict(critique), *said, *_wrapped(critique.problem, 13, _AMBER), *_cost(critique.origin)])
    if refinement:
        done = closing(refinement)
        lines = _wrapped(done[0].upper() + done[1:], 13, _FAINT) + _wrapped(refinement.problem, 13, _AMBER)
        cells[3] = _Cell(lines + _cost(refinement.origin), refinement.picture or refinement.rejected)
    return cells


def _verdict(critique: Critique) -> _Line:
    color = _GREEN if critique.accepted else _FAINT if critique.unreadable else _AMBER
    return _Line(verdict(critique).upper() + _by_hand(critique.origin), 13, color, chip=True)


def _by_hand(origin: Origin) -> str:
    return " · BY HAND" if origin.author == "user" else ""


def _cost(origin: Origin) -> list[_Line]:
    return _wrapped(cost_of(origin), 13, _FAINT)


def _label(text: str) -> _Cell:
    return _Cell([_Line(text, 13, _FAINT)])


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


def _tile_size(picture: Picture) -> tuple[int, int]:
    width, height = picture.image.size
    scale = TILE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, left: int, top: int) -> None:
    if cell.picture:
        # Few pixels stay pixels when enlarged; a photograph is resampled.
        small = max(cell.picture.image.size) <= TILE // 2
        method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        size = _tile_size(cell.picture)
        sheet.paste(cell.picture.image.convert("RGB").resize(size, method), (left, top))
        top += size[1] + _BELOW
    for line in cell.lines:
        font, indent = ImageFont.load_default(line.size), 0
        if line.chip:
            box = (left, top, left + font.getlength(line.text) + 16, top + line.height - 6)
            draw.rounded_rectangle(box, radius=6, fill=line.color)
            indent = 8
        text_top = top + 2 if line.chip else top
        draw.text((left + indent, text_top), line.text, font=font, fill=_PAPER if line.chip else line.color)
        top += line.height

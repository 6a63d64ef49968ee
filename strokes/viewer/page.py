"""A trajectory as one self-contained HTML page, one row a round."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO

from ..process.pictures import Picture
from ..process.sheet import TILE
from ..process.trajectory import Origin, Round, Trajectory
from ..process.wording import LOOKS_AGAIN, closing, cost_line, origin_line, outcome, shortened, verdict

# Bounds on what is shown.
MAX_ROUNDS, MAX_CHARACTERS = 400, 20_000


def html_page(trajectory: Trajectory) -> str:
    """The trajectory as one HTML page that needs no other file: styles inline, pictures as data URIs.

    Of more than :data:`MAX_ROUNDS` rounds the first and the last are shown, of longer texts the beginning.
    """
    sections = [_section(round_, number) for number, round_ in _shown(trajectory)]
    if left_out := len(trajectory.rounds) - len(sections):
        sections.insert(len(sections) // 2, f"<section><h2>… {left_out:,} rounds left out</h2></section>")
    rounds = "\n".join(sections)
    start = f"<section><h2>Start</h2>{_figure(trajectory.start, 'start', '')}</section>" if trajectory.start else ""
    title, small = (
        escape(shortened(trajectory.prompt, MAX_CHARACTERS)),
        escape(f"{trajectory.model} · {cost_line(trajectory)}".strip(" ·")),
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_CSS}</style>
</head>
<body>
<h1>{title}</h1>
{start}
{rounds}
<footer><p>{escape(outcome(trajectory))}</p><small>{small}</small></footer>
</body>
</html>
"""


def _shown(trajectory: Trajectory) -> list[tuple[int, Round]]:
    numbered = list(enumerate(trajectory.rounds, 1))
    half = MAX_ROUNDS // 2
    return numbered if len(numbered) <= MAX_ROUNDS else [*numbered[:half], *numbered[-half:]]


def _section(round_: Round, number: int) -> str:
    plan, critique, refinement = round_.plan, round_.critique, round_.refinement
    cells = [""]
    if plan:
        planned = ("p", plan.instruction), ("p.faint", plan.description), ("p.problem", plan.problem)
        cells = [_text("Plan", plan.origin, *planned)]
    elif not round_.sketch:
        cells = [f'<p class="faint">{LOOKS_AGAIN}</p>']
    cells.append(
        _figure(round_.sketch.picture, f"round {number}, sketch", origin_line(round_.sketch.origin))
        if round_.sketch
        else ""
    )
    if critique:
        style = "accepted" if critique.accepted else "unreadable" if critique.unreadable else "correct"
        words = verdict(critique)
        chip = (f"b.{style}", words[0].upper() + words[1:])
        said = ("p.faint", critique.explanation), ("p", critique.correction), ("p.problem", critique.problem)
        cells.append(_text("Inspect", critique.origin, chip, *said))
    if refinement and (shown := refinement.picture or refinement.rejected):
        label = "refined" if refinement.picture else "repainted, not kept"
        note = f"{closing(refinement)} · {origin_line(refinement.origin)}"
        cells.append(_figure(shown, f"round {number}, {label}", note))
    elif refinement:
        done = closing(refinement)
        closed = ("p.faint", done[0].upper() + done[1:]), ("p.problem", refinement.problem)
        cells.append(_text("Refine", refinement.origin, *closed))
    return f"<section><h2>Round {number}</h2><div class=row>{''.join(f'<div>{cell}</div>' for cell in cells)}</div></section>"


def _text(title: str, origin: Origin, *parts: tuple[str, str]) -> str:
    """HTML of one turn: title, parts, origin. A part is (element or element.class, text); empty ones are left out."""
    body = ""
    for element, text in parts:
        name, _, style = element.partition(".")
        attribute = f' class="{style}"' if style else ""
        body += f"<{name}{attribute}>{escape(shortened(text, MAX_CHARACTERS))}</{name}>" if text else ""
    return f"<h3>{title}</h3>{body}<small>{origin_line(origin)}</small>"


def _figure(picture: Picture, label: str, note: str) -> str:
    data = BytesIO()
    picture.image.save(data, "PNG")
    source = base64.b64encode(data.getvalue()).decode()
    style = ' class="pixels"' if max(picture.image.size) <= TILE // 2 else ""
    image = f'<img{style} alt="{label}" src="data:image/png;base64,{source}">'
    return f"<figure>{image}<figcaption><small>{note}</small></figcaption></figure>"


_CSS = """
:root{color-scheme:light dark;--ink:#1d1d1f;--faint:#66666b;--line:#e2e2e5;--paper:#fff;--green:#1f7a4d;--amber:#a35200}
@media(prefers-color-scheme:dark){:root{--ink:#ececee;--faint:#a0a0a6;--line:#35353a;--paper:#161618;--amber:#e39a4a}}
body{font:16px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1240px;margin:2rem auto;
padding:0 1.25rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25}h2{font-size:1rem}h3,small{font-size:.8rem;color:var(--faint);font-weight:400}
h3{margin:0 0 .4rem}p{margin:0 0 .6rem;white-space:pre-line}.faint{color:var(--faint)}.problem{color:var(--amber)}
section,footer{border-top:1px solid var(--line);padding:.75rem 0 1.25rem}
.row{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:1.25rem}
figure{margin:0;max-width:320px}img{width:100%;display:block;border-radius:4px}.pixels{image-rendering:pixelated}
b{display:inline-block;margin-bottom:.5rem;padding:.1rem .5rem;border-radius:6px;color:#fff;font-size:.8rem}
.accepted{background:var(--green)}.correct{background:#a35200}.unreadable{background:#66666b}
@media(max-width:720px){.row{grid-template-columns:1fr}figure{max-width:none}.row div:empty{display:none}}
"""

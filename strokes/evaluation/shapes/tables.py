"""A report as plain text for a terminal of 110 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...shapes.scene_graph import CATEGORIES
from ...shapes.splits import SPLITS
from ..statistics import Estimate
from .arms import ARMS
from .curve import THRESHOLDS, inspector_curve
from .report import Report, counted, number, shares, signed

Format = Callable[[Estimate], str]

_COSTS: dict[str, Format] = {"pictures": number, "model calls": number, "tokens": number, "seconds": number}
_STOPPING: dict[str, Format] = {
    "pictures": number, "pictures / needed": number, "pictures / least": number, "model calls": number,
    "seconds": number, "ended by itself": shares,
}  # fmt: skip
_INSPECTOR = ("precision", "recall", "balanced accuracy", "always accepting")
_INCOMPLETE = ("precision, incomplete", "recall, incomplete", "right accepted, incomplete", "accuracy, incomplete")
_REPAINTED: dict[str, Format] = {"fix rate": counted, "break rate": counted, "fixes / break": number}
_DRIFT: dict[str, Format] = {
    "step keeps": counted, "step shift": number, "refinement keeps": counted, "refinement shift": number
}  # fmt: skip


def text(report: Report) -> str:
    n, k = len(report.prompts), len(report.seeds)
    lines = [
        f"{n} prompt{'s'[: n > 1]}, {k} seed{'s'[: k > 1]}. After each number its 95 % interval (bootstrap over prompts, "
        "all seeds of one together).",
        *_matches(report, "Exact match in %, by kind", ("all", *CATEGORIES)),
        *_matches(report, "Exact match in %, by split", (*SPLITS, "other", "held out", "3 or more")),
        "",
        "held out: pairs and relations. 3 or more: scenes of three objects or more, of any split.",
        *_compared(report),
        "",
        _row("Per prompt", list(_COSTS), 22),
        *(_row(ARMS[arm], _cells(report, _COSTS, arm), 22) for arm in report.arms),
    ]
    if report.batched:
        lines.append("  Prompts were painted side by side: seconds are shares of the whole, not how long one waits.")
    if "process" in report.arms:
        lines += [
            *_by_group(report, "Full process", _STOPPING, 15),
            "  needed: one picture a planned step, one more for each sketch that the checker calls wrong;",
            "  least: the same with one step for each shape of the prompt, however many were planned",
            *_by_group(report, "Inspector, % of", dict.fromkeys(_INSPECTOR, counted), 21),
            *_by_group(report, "… incomplete, % of", dict.fromkeys(_INCOMPLETE, counted), 21),
            "  Rejecting is the positive: precision is the share of rejected sketches that are wrong. Always accepting",
            "  would be right as often as its column says.",
            *_thresholds(report),
            *_faults(report),
            *_by_group(report, "Repainting, % of", _REPAINTED, 21),
            *(
                _row(ARMS[arm], _cells(report, _REPAINTED, arm), 21)
                for arm in ("oracle", "shuffled")
                if arm in report.arms
            ),
            *_by_group(report, "Drift, % of and px", _DRIFT, 21),
            "  Shapes that the instruction does not touch: how many stay within 3 px, and by how much these move",
        ]
    return "\n".join(line.rstrip() for line in (*lines, *_notes(report)))


def _row(name: str, cells: Sequence[str], width: int = 12) -> str:
    return f"  {name:<22}" + "".join(f"{cell:<{width}}" for cell in cells)


def _matches(report: Report, title: str, groups: Sequence[str]) -> list[str]:
    there = [group for group in groups if group in report.groups]
    if not there:
        return []
    lines = ["", title, _row("", there), _row("prompts", [str(len(report.groups[group])) for group in there])]
    for arm in report.arms:
        lines.append(_row(ARMS[arm], [shares(report.get("exact match", arm, group)) for group in there]))
    return lines


def _compared(report: Report) -> list[str]:
    lines = []
    for d in report.differences:
        alone = f"won {d.won}, lost {d.lost}, p {d.p:.2g}"
        lines.append(f"  {ARMS[d.other]:<22}{d.group:<12}{signed(d.above):<28}{alone}")
    title = "Exact match of the full process above … (won, lost: paintings that only one got right; p: sign test)"
    return ["", title, *lines] if lines else []


def _cells(report: Report, columns: dict[str, Format], arm: str = "process", group: str = "all") -> list[str]:
    return [shown(report.get(name, arm, group)) for name, shown in columns.items()]


def _by_group(report: Report, title: str, columns: dict[str, Format], width: int) -> list[str]:
    groups = [group for group in report.groups if group in ("all", *CATEGORIES, *SPLITS)]
    head = [name.replace(", incomplete", "").replace("pictures /", "/").replace(" by itself", "") for name in columns]
    rows = [_row(group, _cells(report, columns, group=group), width) for group in groups]
    return ["", _row(title, head, width), *rows]


def _thresholds(report: Report) -> list[str]:
    rows = [
        _row(
            f"{p.threshold:+g}", [f"{100 * p.precision:.1f} of {p.rejected}", f"{100 * p.recall:.1f} of {p.wrong}"], 21
        )
        for p in inspector_curve(report.of("process"), THRESHOLDS)
    ]
    head = _row("Inspector, threshold", ["precision, %", "recall, %"], 21)
    note = "  Natural logarithms, added to the dialect's own; sketches as they were painted at that one."
    return ["", head, *rows, note] if rows else []


def _faults(report: Report) -> list[str]:
    rows = [f"  {fault:<48}{n:>7}{caught:>10}" for fault, (n, caught) in report.faults().items()]
    return ["", f"  {'Wrong sketches, by what is wrong':<48}{'in all':>7}{'rejected':>10}", *rows] if rows else []


def _notes(report: Report) -> list[str]:
    unjudged = sum(s.right is None for t in report.of("process") for s in t.steps)
    kept = sum(t.own_words for t in report.of("shuffled"))
    lines = [f"{unjudged} sketches of the process were not judged: their plan cannot be read."] if unjudged else []
    if kept:
        lines.append(f"{kept} rejections kept their own critique: no other prompt had one.")
    if report.unread:
        lines += ["", "Prompts left out", *(f"  line {line}: {why}" for line, why in report.unread)]
    marks = {True: "yes", False: "no", None: "–"}
    goals = [f"  {marks[g.met]:<4}{g.name:<39}{g.wanted:<32}{g.measured}" for g in report.goals()]
    return ["", *lines, "", "Goals of the project for the full process: met? (– not measured)", *goals]

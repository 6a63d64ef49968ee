"""The training log: JSON lines with ``part``, ``step`` and losses; read, and drawn as loss curves."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

from ..errors import StrokesError
from ..files import write_whole

matplotlib.use("Agg")
from matplotlib.figure import Figure  # noqa: E402

# Keys of a log line that are no losses.
_OTHER = ("part", "step", "norm", "rows", "seconds")
_NAME = re.compile(r"[\w ,-]{1,100}")
# Lower bound of the loss axis: the start and stop tokens are learned within minutes, and would squeeze the others.
FLOOR = 1e-3

Row = dict[str, Any]


def read_log(log: Path) -> list[Row]:
    """The lines of a log; [] where there is none. Raises StrokesError that names the first line of another form."""
    rows: list[Row] = []
    if not log.exists():
        return rows
    for number, line in enumerate(log.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not _is_row(row):
            raise StrokesError(f"{log}: line {number} is no line of a training log: delete that line, and run again")
        rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not all(_NAME.fullmatch(name) for name in row):
        return False
    numbers = [value for name, value in row.items() if name != "part"]
    return (
        isinstance(row.get("part"), str)
        and _NAME.fullmatch(row["part"]) is not None
        and type(row.get("step")) is int
        and all(type(n) is float or type(n) is int and abs(n) < 2**53 for n in numbers)
    )


def plot_log(log: Path, out: Path, smooth: int = 5) -> None:
    """Draw a log as a PNG, one panel a part, losses on a logarithmic axis: each value faint, their running mean over
    ``smooth`` lines strong. Nothing is drawn of an empty log. Raises StrokesError as :func:`read_log` does."""
    parts: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in read_log(log):
        for name, value in row.items():
            if name not in _OTHER:
                parts[row["part"]][name][row["step"]] = value  # a part run again overwrites what was cut off
    if not parts:
        return
    figure = Figure(figsize=(5.2 * len(parts), 3.4), layout="constrained")
    for i, (part, losses) in enumerate(parts.items(), 1):
        axes = figure.add_subplot(1, len(parts), i, title=part, xlabel="step", yscale="log")
        for name, points in sorted(losses.items()):  # the same colour in every part
            steps, values = list(points), list(points.values())
            (faint,) = axes.plot(steps, values, alpha=0.25, linewidth=1)
            means = [sum(values[max(0, k - smooth + 1) : k + 1]) / min(k + 1, smooth) for k in range(len(values))]
            axes.plot(steps, means, color=faint.get_color(), label=f"{name} {means[-1]:.3f}")
        if axes.get_ylim()[0] < FLOOR:
            axes.set_ylim(bottom=FLOOR)
        axes.legend(frameon=False, fontsize="small", ncols=2)
        axes.grid(alpha=0.2, which="both")
    write_whole(out, lambda path: figure.savefig(path, format="png", dpi=110))

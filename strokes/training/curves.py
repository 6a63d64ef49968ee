"""A run's log as a picture: every loss over the steps of its part."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import matplotlib

from ..files import write_whole

matplotlib.use("Agg")
from matplotlib.figure import Figure  # noqa: E402

# What a log line says beside losses.
_OTHER = ("part", "step", "norm", "rows", "seconds")
# What falls below is learned (the start and stop tokens within minutes), and would squeeze all the others.
FLOOR = 1e-3


def plot_log(log: Path, out: Path, smooth: int = 5) -> None:
    """Draw ``log`` (JSON lines with ``part``, ``step`` and losses) as one panel a part, losses on a logarithmic axis: every
    line of the log faint, the mean of ``smooth`` of them strong."""
    parts: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name not in _OTHER:
                parts[row["part"]][name][row["step"]] = value  # a part run again overwrites what was cut off
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

"""The inspector over thresholds: precision and recall of its rejections had another margin been asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import StrokesError
from .trials import Trial

# Thresholds of the table, in natural logarithms, added to that of the dialect.
THRESHOLDS = (-8.0, -6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True, kw_only=True)
class Point:
    """The inspector at one ``threshold``: how many sketches it rejects, how many of these are wrong, and how many are wrong in
    all."""

    threshold: float
    rejected: int
    caught: int
    wrong: int

    @property
    def precision(self) -> float:
        """The share of rejected sketches that are wrong; 1 where none is rejected."""
        return self.caught / self.rejected if self.rejected else 1.0

    @property
    def recall(self) -> float:
        """The share of wrong sketches that are rejected; 1 where none is wrong."""
        return self.caught / self.wrong if self.wrong else 1.0


def inspector_curve(trials: Iterable[Trial], thresholds: Sequence[float] | None = None) -> list[Point]:
    """The points of all judged sketches whose verdict was measured, at ``thresholds``; None: at every margin that occurs.

    The sketches are those that were painted with the dialect's own threshold: another one would have led to others.
    """
    found = [(s.margin, s.right) for t in trials for s in t.steps if s.margin is not None and s.right is not None]
    wrong = sum(not right for _, right in found)
    points = []
    for threshold in sorted({margin for margin, _ in found}) if thresholds is None else thresholds:
        rejected = [right for margin, right in found if margin < threshold]
        points.append(Point(threshold=threshold, rejected=len(rejected), caught=rejected.count(False), wrong=wrong))
    return points if found else []


def plot_curve(trials: Sequence[Trial], out: Path) -> None:
    """Draw precision over recall as a PNG, with the thresholds of the table marked.

    Raises StrokesError where no verdict was measured.
    """
    if not (points := inspector_curve(trials)):
        raise StrokesError("--curve: no verdict was measured; evaluate the arm process with a model that inspects")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot(
        xlabel="recall: share of wrong sketches rejected", ylabel="precision: share of rejected wrong"
    )
    axes.plot([p.recall for p in points], [p.precision for p in points], linewidth=1.5)
    marked = inspector_curve(trials, [t for t in THRESHOLDS if abs(t) <= 4])
    axes.scatter([p.recall for p in marked], [p.precision for p in marked], s=18)
    for point in marked:
        axes.annotate(f"{point.threshold:+g}", (point.recall, point.precision), (4, 4), textcoords="offset points")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.2)
    figure.savefig(out, format="png", dpi=110)

"""The inspector over thresholds."""

from __future__ import annotations

import pytest
from PIL import Image

from strokes.errors import StrokesError
from strokes.evaluation.shapes.curve import inspector_curve, plot_curve
from strokes.evaluation.shapes.trials import JudgedRound, Trial
from strokes.process.trajectory import Cost


def trial(*steps):
    judged = tuple(JudgedRound(right=r, complete=True, accepted=m is None or m >= 0, margin=m) for r, m in steps)
    return Trial(
        line=1, objects=1, seed=0, arm="process", right=True, reasons=(), pictures=1, cost=Cost(), steps=judged
    )


TRIALS = [trial((False, -3.0), (True, 2.0)), trial((False, 0.5), (True, -1.0), (None, -9.0), (False, None))]


def test_points_count_what_would_have_been_rejected():
    low, own, high = inspector_curve(TRIALS, (-2.0, 0.0, 3.0))
    assert (low.rejected, low.caught, low.precision, low.recall) == (1, 1, 1.0, 0.5)
    assert (own.rejected, own.caught, own.precision, own.recall) == (2, 1, 0.5, 0.5)
    assert (high.rejected, high.caught, high.precision, high.recall) == (4, 2, 0.5, 1.0)


def test_recall_never_falls_with_the_threshold():
    points = inspector_curve(TRIALS)
    assert [p.threshold for p in points] == [-3.0, -1.0, 0.5, 2.0]
    assert [p.recall for p in points] == sorted(p.recall for p in points)


@pytest.mark.slow
def test_the_drawing(tmp_path):
    plot_curve(TRIALS, tmp_path / "curve.png")
    assert Image.open(tmp_path / "curve.png").size[0] > 500
    with pytest.raises(StrokesError, match="no verdict was measured"):
        plot_curve([], tmp_path / "none.png")

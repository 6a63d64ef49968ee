"""Critiques that cannot be read, in the evaluation: neither an acceptance nor words that another process could be told."""

from __future__ import annotations

from dataclasses import replace

from oracle_painter import OraclePainter

from strokes.evaluation.shapes.benchmark import evaluate
from strokes.process.dialects.miniature import REJECTS


class Speechless(OraclePainter):
    """Rejects every picture of prompts with a red circle, and does not say what to correct."""

    def write_text(self, state, settings, seed, on_text=None, start="", stop=()):
        written = super().write_text(state, settings, seed, on_text, start, stop)
        return replace(written, text=start) if start in REJECTS and "red circle" in state[0] else written


def test_what_is_unreadable_is_told_to_no_other_process_and_repaints_nothing():
    painter = Speechless(verdict="reject")
    prompts = ["a red circle", "a blue square", "a green triangle"]
    report = evaluate(painter, prompts, ("process", "shuffled"), rounds=1)
    assert len(report.trials) == 6
    for trial in report.trials:
        (step,) = trial.steps
        assert not step.accepted and bool(step.correction) == (trial.line != 1)
        assert trial.pictures == (1 if trial.line == 1 else 2), "nothing is repainted without a correction"

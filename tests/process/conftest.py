from __future__ import annotations

import pytest
from scripted_painter import CORRECTED, ROUND, ScriptedPainter

from strokes.process import loop, stages


@pytest.fixture
def two_rounds():
    """A finished trajectory: a corrected round, then an accepted one."""
    painter = ScriptedPainter([*CORRECTED, *ROUND[:2], ""])
    return loop.run(painter, stages.begin(painter, "a dog and a cat"), 4, seed=7)

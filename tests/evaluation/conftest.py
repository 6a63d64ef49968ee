from __future__ import annotations

import pytest

from strokes.evaluation.shapes.prompts import write_prompts


@pytest.fixture(scope="session")
def prompts():
    """Twenty-four of up to four shapes, every kind and three of the splits among them."""
    return write_prompts(24, seed=1, splits=("seen", "pairs", "relations"))

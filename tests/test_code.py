"""Lint and types are part of the test run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "-p", "strokes"]], ids=" ".join
)
def test_clean(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_long():
    long = {p.name: n for p in ROOT.glob("strokes/**/*.py") if (n := len(p.read_text().splitlines())) > 500}
    assert not long

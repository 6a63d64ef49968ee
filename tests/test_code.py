"""Lint and types are part of the test run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."]], ids=" ".join)
def test_clean(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_types(tmp_path):
    """Checked as a package, as ComfyUI loads it; ComfyUI itself is not there and its values are taken as Any."""
    (tmp_path / "pack").symlink_to(ROOT)
    command = ["mypy", "--config-file", str(ROOT / "pyproject.toml")]
    for part in ("strokes", "nodes", "model_loader"):
        command += ["-p", f"pack.{part}"]
    environment = {**os.environ, "MYPYPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_long():
    folders = ("strokes", "nodes", "model_loader", "tests")
    files = [path for folder in folders for path in ROOT.glob(f"{folder}/**/*.py")]
    assert not {path.name: n for path in files if (n := len(path.read_text().splitlines())) > 500}

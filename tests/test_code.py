"""Lint and types are part of the test run."""

from __future__ import annotations

import ast
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


FILES = [path for folder in ("strokes", "nodes", "model_loader", "tests") for path in ROOT.glob(f"{folder}/**/*.py")]
OURS = [path for path in FILES if "tests" not in path.relative_to(ROOT).parts]


def test_no_file_is_long():
    assert not {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > 400}


def is_free(function: ast.FunctionDef) -> bool:
    """ComfyUI calls ``execute``, typer the commands, and the painter protocol's methods are what a model needs."""
    commands = ("paint", "show", "evaluate_shapes", "train_embedded_command", "train_ablations_command")
    return function.name in ("execute", "paint_picture", *commands)


def test_no_function_takes_more_than_seven():
    long = []
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not is_free(node):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([a for a in given if a.arg not in ("self", "cls")]) > 7:
                    long.append(f"{path.name}:{node.lineno} {node.name}")
    assert not long, long


def test_large_dataclasses_are_built_by_keyword():
    positional = []
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                marks = [ast.unparse(d) for d in node.decorator_list if ast.unparse(d).startswith("dataclass")]
                fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
                if marks and len(fields) > 4 and "kw_only=True" not in marks[0]:
                    positional.append(f"{path.name}:{node.lineno} {node.name} ({len(fields)})")
    assert not positional, positional


@pytest.mark.slow
def test_test_doubles_fulfil_the_painter_protocol(tmp_path):
    doubles = sorted((ROOT / "tests" / "doubles").glob("*.py"))
    for path in (ROOT / "strokes", *doubles):
        (tmp_path / path.name).symlink_to(path)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += [argument for path in doubles for argument in ("-m", path.stem)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

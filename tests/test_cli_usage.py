"""Usage errors of the installed command: help or one line, and status 2, whichever typer is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strokes.cli.paint import parse_size
from strokes.errors import StrokesError

ROOT = Path(__file__).parent.parent
SCRIPT = Path(sys.executable).with_name("strokes")
COMMAND = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "strokes"]


def run(*args: str, command: list[str] = COMMAND) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *args], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["frobnicate"], "'frobnicate'"),
        (["--frobnicate"], "--frobnicate"),
        (["train", "frobnicate"], "'frobnicate'"),
        (["paint"], "prompt"),
        (["paint", "a red circle", "a blue square"], "a blue square"),
        (["paint", "a red circle", "--steps", "abc"], "'--steps'"),
        (["paint", "a red circle", "--seed", "-1"], "'--seed'"),
        (["paint", "a red circle", "--seed"], "'--seed'"),
        (["paint", "a red circle", "--rounds", "9" * 5000], "'--rounds'"),
        (["paint", "a red circle", "--rounds", "1" + "0" * 30], "choose from 1 to 32"),
        (["paint", "a red circle", "--size", "9" * 5000 + "x64"], "write width x height"),
        pytest.param(
            ["evaluate", "shapes", "--prompts", "none.txt", "--make-prompts", "1" + "0" * 30],
            "at most 100000",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["evaluate", "shapes", "--prompts", "none.txt", "--seeds", "9" * 5000],
            "give whole numbers",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(args: list[str], names: str) -> None:
    done = run(*args)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert names.lower() in done.stderr.lower() and "Traceback" not in done.stderr


@pytest.mark.parametrize(("args", "lists"), [([], "evaluate"), (["train"], "ablations"), (["evaluate"], "shapes")])
def test_a_group_alone_is_its_help_and_status_2(args: list[str], lists: str) -> None:
    done = run(*args)
    assert done.returncode == 2 and lists in done.stdout and done.stderr == ""


def test_asking_for_help_is_no_error() -> None:
    done = run("paint", "--help")
    assert done.returncode == 0 and "--rounds" in done.stdout


def test_the_module_is_the_same_command() -> None:
    done = run("frobnicate", command=[sys.executable, "-m", "strokes"])
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["", "x", "64", "64x", "-64x64", "64.0x64", "²x64", "٦٤x٦٤", "9" * 5000 + "x64"])
def test_a_size_is_two_numbers_in_plain_digits(text: str) -> None:
    with pytest.raises(StrokesError, match="--size"):
        parse_size(text)
    assert parse_size(" 64×48 ") == (64, 48)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system are Unix's")
@pytest.mark.parametrize("more", [(), ("--make-prompts", "3")])
def test_prompts_are_read_from_a_regular_file_only(tmp_path: Path, more: tuple[str, ...]) -> None:
    pipe = tmp_path / "prompts.txt"
    os.mkfifo(pipe)
    done = run("evaluate", "shapes", "--prompts", str(pipe), *more)
    assert (
        done.returncode == 2
        and f"cannot read {pipe} (no regular file)" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )

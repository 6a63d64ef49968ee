"""The command line as a person uses it, on the toy model: what it leaves behind and how it fails."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from strokes.cli.main import main
from strokes.process.store import load

ROOT = Path(__file__).parent.parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def strokes(*args, cwd):
    """The entry point in this process: what a shell would see, without seconds of imports a call."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "400")
        patch.setattr(sys, "argv", ["strokes", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
    return Done(ended.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def painted(toy_folder, tmp_path_factory):
    here = tmp_path_factory.mktemp("cli")
    args = ("paint", "a red circle and a blue square", "--model", toy_folder, "--rounds", 2, "--steps", 3, "--seed", 4)
    done = strokes(*args, "--out", "one", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    return here, args, json.loads(done.stdout)


def test_painting_leaves_pictures_sheet_page_and_trajectory(painted):
    here, _, result = painted
    trajectory = load(here / "one")
    assert len(trajectory.rounds) == result["rounds"] >= 1
    assert trajectory.cost.model_calls == result["model_calls"] > 0
    assert Image.open(here / "one" / "sheet.png").width > 400
    assert "<html" in (here / "one" / "index.html").read_text()
    assert len(list((here / "one" / "pictures").glob("*.png"))) == len(trajectory.pictures)


def pixels(folder):
    return {p.name: p.read_bytes() for p in sorted((folder / "pictures").iterdir())}


def test_the_same_command_gives_the_same_bytes_and_round_one_is_the_same_for_any_rounds(painted):
    here, args, _ = painted
    assert strokes(*args, "--out", "two", cwd=here).returncode == 0
    assert pixels(here / "one") == pixels(here / "two")
    longer = [*args]
    longer[longer.index("--rounds") + 1] = 1
    assert strokes(*longer, "--out", "short", cwd=here).returncode == 0
    short = pixels(here / "short")
    assert short and short.items() <= pixels(here / "one").items()
    longer[longer.index("--seed") + 1] = 5
    assert strokes(*longer, "--out", "other", cwd=here).returncode == 0
    assert pixels(here / "other") != short


def test_show_makes_both_views_again(painted):
    here, _, _ = painted
    done = strokes("show", "one/trajectory.json", "--out", "views", cwd=here)
    assert done.returncode == 0
    assert {p.name for p in (here / "views").iterdir()} == {"sheet.png", "index.html"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["paint", ""], "the prompt is empty"),
        (["paint", "a red elephant"], "does not know 'elephant'; it knows:"),
        (["paint", "a red circle " * 40], "tokens long"),
        (["paint", "a red circle", "--size", "60x64"], "multiples of 16"),
        (["paint", "a red circle", "--size", "640x640"], "at most 64"),
        (["paint", "a red circle", "--size", "big"], "--size big"),
        (["paint", "a red circle", "--rounds", "0"], "0 rounds"),
        (["paint", "a red circle", "--steps", "0"], "--steps 0"),
        (["paint", "a red circle", "--image", "none.png"], "none.png"),
        (["paint", "a red circle", "--out", "taken"], "taken exists already"),
        (["paint", "a red circle", "--out", "file/inside"], "file/inside"),
        (["paint", "a red circle", "--model", "nowhere"], "no model at nowhere"),
        (["show", "nowhere"], "nowhere"),
        (["parity", "nowhere"], "nowhere"),
        (["train", "embedded", "--preset", "huge"], "huge"),
        (["train", "embedded", "--preset", "toy", "--device", "gpu"], "--device gpu"),
        (["train", "embedded", "--preset", "toy", "--out", "file/inside"], "file/inside"),
        (["paint", "a red circle", "--model", "x" * 5000], "name too long"),
        (["evaluate", "shapes", "--prompts", "nowhere.txt"], "nowhere.txt"),
        (["evaluate", "shapes"], "--prompts"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, toy_folder, args, says):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "something").touch()
    (tmp_path / "file").touch()
    if args[0] == "paint" and "--model" not in args:
        args = [*args, "--model", toy_folder]
    before = sorted(tmp_path.rglob("*"))
    done = strokes(*args, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stderr
    assert says in lines[-1] and "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before, "nothing was left behind"


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path, endless_folder):
    command = [
        sys.executable,
        "-c",
        "from strokes.cli.main import main; main()",
        "paint",
        "a red circle",
        "--rounds",
        "3",
    ]
    command += ["--model", str(endless_folder), "--out", "stopped", "--steps", "1000"]
    # A shell that runs the tests in the background hands on that SIGINT is ignored.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    document = tmp_path / "stopped" / "trajectory.json"
    for _ in range(600):
        if document.exists() and json.loads(document.read_text())["rounds"]:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors and "stopped; everything finished so far" in errors
    assert load(document).rounds[0].plan.text
    assert not list(tmp_path.rglob("*.tmp"))


def test_help_reads_well(tmp_path):
    shown = strokes("--help", cwd=tmp_path).stdout
    for command in ("paint", "show", "parity", "train", "evaluate"):
        assert command in shown


@pytest.mark.slow
def test_training_starts_over_from_nothing_with_the_same_result(tmp_path, toy_folder):
    done = strokes("train", "embedded", "--preset", "toy", "--out", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("ema.safetensors", "ae.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (toy_folder / name).read_bytes(), name
    other = strokes("train", "embedded", "--preset", "toy", "--seed", 1, "--out", "again", cwd=tmp_path)
    assert other.returncode == 2 and "other settings" in other.stderr


def test_training_without_its_packages_says_what_brings_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    done = strokes("train", "embedded", "--preset", "toy", "--out", "model", cwd=tmp_path)
    assert done.returncode == 2 and ".[train]" in done.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_full_disk_ends_training_with_one_line_and_nothing_half_written(tmp_path, monkeypatch):
    write = Path.write_text

    def full(path, text, **more):
        write(path, text[:7], **more)
        if path.name.startswith("shard-"):
            raise OSError(28, "No space left on device")
        return write(path, text, **more)

    monkeypatch.setattr(Path, "write_text", full)
    done = strokes("train", "embedded", "--preset", "toy", "--out", "model", cwd=tmp_path)
    assert done.returncode == 2 and "shard-00000.jsonl (No space left" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "model").rglob("*.tmp")) and (tmp_path / "model" / "ae.safetensors").exists()


@pytest.mark.slow
def test_evaluation_lists_what_it_cannot_read_and_takes_any_arms(tmp_path, toy_folder):
    (tmp_path / "prompts.txt").write_text("a red circle\na pink house\n")
    args = ("evaluate", "shapes", "--model", toy_folder, "--prompts", "prompts.txt", "--rounds", 1)
    done = strokes(*args, "--arms", "all", "--examples", "wins.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "line 2" in done.stdout and "shuffled critiques" in done.stdout
    with Image.open(tmp_path / "wins.png") as sheet:
        sheet.verify()
    assert strokes(*args, "--arms", "best-of-k", cwd=tmp_path).returncode == 2

"""The whole of `strokes train embedded` at toy length: cut off anywhere and run again, it ends with the same files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate import Accelerator
from PIL import Image

from strokes.bagel.weights.checkpoint import load
from strokes.data.shards import ShardSet
from strokes.errors import StrokesError
from strokes.recipes.embedded import PRESETS, EmbeddedRun, with_steps
from strokes.training.packing import LOSSES

TOY = PRESETS["toy"]
PARTS = {"autoencoder", "first", "second-1", "second-2"}
ROOT = Path(__file__).parents[2]


def run(folder, report=lambda *_: None, preset=TOY, seed=0):
    return EmbeddedRun(folder, preset, seed, Accelerator(cpu=True), report)()


def files(folder):
    """All that a run leaves but its log, which also keeps what was cut off, and what is drawn of it."""
    left = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("log.jsonl", "curves.png"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in left}


class Cut(Exception):
    pass


def cut_at(part, done):
    def report(now, step, of, losses):
        if (now, step) == (part, done):
            raise Cut

    return report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "done"),
    [
        ("autoencoder", 1),
        ("data: one-shot", 1),
        ("data: rounds", 1),
        ("first", 3),
        ("data: self-sampled", 1),
        ("second-1", 2),
        ("second-2", 1),
    ],
)
def test_a_run_cut_off_anywhere_ends_with_the_same_files(toy_folder, tmp_path, part, done):
    with pytest.raises(Cut):
        run(tmp_path, cut_at(part, done))
    run(tmp_path)
    whole, again = files(toy_folder), files(tmp_path)
    assert whole.keys() == again.keys()
    assert [name for name in whole if whole[name] != again[name]] == []


def test_a_finished_run_does_nothing_more(toy_folder):
    before, parts = files(toy_folder), []
    run(toy_folder, lambda part, *_: parts.append(part))
    assert files(toy_folder) == before
    assert not PARTS & set(parts)


def test_another_run_leaves_the_folder_alone(toy_folder):
    before = files(toy_folder)
    with pytest.raises(StrokesError, match="other settings"):
        run(toy_folder, seed=1)
    with pytest.raises(StrokesError, match="other settings"):
        run(toy_folder, preset=with_steps(TOY, 9))
    assert files(toy_folder) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "ema.safetensors").write_bytes(b"weights of someone")
    before = files(tmp_path)
    with pytest.raises(StrokesError, match="holds no training run"):
        run(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_files(toy_folder, tmp_path):
    """No exception, no clean-up: the process is gone as soon as a file of each part shows up, whole or not."""
    out = tmp_path / "model"
    command = [sys.executable, "-m", "strokes", "train", "embedded", "--preset", "toy", "--out", str(out)]
    for name in (
        "ae.safetensors",
        "run/data/rounds/shard-00000.jsonl",
        "run/first/state",
        "run/data/own-1",
        "run/second-1",
    ):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(out.glob(f"{name}*")):
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL, name
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    whole, again = files(toy_folder), files(out)
    assert whole.keys() == again.keys()
    assert [name for name in whole if whole[name] != again[name]] == []


def test_a_finished_stage_of_another_network_is_named(toy_folder, tmp_path):
    shutil.copytree(toy_folder, tmp_path, dirs_exist_ok=True)
    shutil.copyfile(tmp_path / "ae.safetensors", tmp_path / "run" / "first.safetensors")
    with pytest.raises(StrokesError, match=r"first.safetensors lacks"):
        run(tmp_path)
    (tmp_path / "run" / "first.safetensors").write_bytes(b"torn")
    with pytest.raises(StrokesError, match=r"first.safetensors is truncated .* delete it"):
        run(tmp_path)


def test_a_run_killed_at_its_first_file_starts_again(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json.tmp").write_text("{")
    with pytest.raises(Cut):
        run(tmp_path, cut_at("autoencoder", 1))


def test_a_torn_line_of_the_log_is_taken_off(toy_folder, tmp_path):
    shutil.copytree(toy_folder, tmp_path, dirs_exist_ok=True)
    log = tmp_path / "run" / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + whole[:7])
    run(tmp_path)
    assert log.read_text() == whole


def test_the_log_has_every_part_and_becomes_a_picture(toy_folder):
    rows = [json.loads(line) for line in (toy_folder / "run" / "log.jsonl").read_text().splitlines()]
    assert {row["part"] for row in rows} == PARTS
    assert {name for row in rows for name in row} >= set(LOSSES)
    with Image.open(toy_folder / "run" / "curves.png") as picture:
        assert picture.width > 1000


def test_self_sampled_rounds_show_the_models_own_pictures(toy_folder):
    own = ShardSet(toy_folder / "run" / "data" / "own-1")
    samples = [own[i] for i in range(len(own))]
    assert samples
    for sample in samples:
        for picture in (sample.canvas, sample.seen):
            if picture is not None:
                assert picture.pixels.shape == (3, 64, 64) and picture.latents.shape == (16, 8, 8)


@pytest.mark.slow
def test_several_processes_share_a_run(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "strokes", "train", "embedded", "--preset", "toy", "--out", str(tmp_path)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert load(tmp_path).profile.name == "strokes-embedded"
    parts = [json.loads(line)["part"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert parts == sorted(PARTS)

"""Training folders damaged on purpose: the file is named, with the remedy, and the remedy works."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator

from strokes.errors import StrokesError
from strokes.recipes.embedded import PRESETS, EmbeddedRun
from strokes.recipes.lock import RunLock

# What a toy run reads again, and what of it has to go first for the run to look there.
READ_AGAIN = {
    "ae.safetensors": None,
    "tokenizer.json": None,
    "run/first.safetensors": None,
    "run/second-2.safetensors": None,
    "run/first/state.safetensors": "run/first.safetensors",
    "run/models/first/ema.safetensors": None,
    "run/models/second-1/ae.safetensors": None,
}


@pytest.fixture
def folder(toy_folder, tmp_path):
    return Path(shutil.copytree(toy_folder, tmp_path / "toy"))


def run(folder, report=lambda *_: None):
    return EmbeddedRun(folder, PRESETS["toy"], 0, Accelerator(cpu=True), report)()


def flip(path, byte=-5):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", READ_AGAIN)
def test_a_flipped_bit_is_found_and_the_file_named(folder, name):
    if hides := READ_AGAIN[name]:
        (folder / hides).unlink()
    flip(folder / name)
    with pytest.raises(StrokesError, match=rf"{Path(name).name} is not what the run wrote there .* delete it"):
        run(folder)
    assert not (folder / "run" / "lock").exists()


@pytest.mark.slow
def test_what_is_deleted_as_advised_is_made_again(folder, toy_folder):
    for name in READ_AGAIN:
        (folder / name).unlink(missing_ok=True)
    run(folder)
    for name in (*READ_AGAIN, "ema.safetensors", "run/files.json", "run/run.json"):
        assert (folder / name).read_bytes() == (toy_folder / name).read_bytes(), name


def test_a_folder_without_checksums_opens_and_gets_them(folder):
    checksums = folder / "run" / "files.json"
    before = json.loads(checksums.read_text())
    checksums.unlink()
    run(folder)
    known = json.loads(checksums.read_text())
    assert "../ae.safetensors" in known and known.items() <= before.items()
    flip(folder / "ae.safetensors")
    with pytest.raises(StrokesError, match="is not what the run wrote"):
        run(folder)


def test_the_settings_are_not_touched_by_checksums(toy_folder):
    assert "files" not in json.loads((toy_folder / "run" / "run.json").read_text())
    assert not (toy_folder / "run" / "lock").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"run\.json is not valid JSON .*choose another --out"),
        ("[" * 100_000, r"run\.json is not valid JSON"),
        ("\xff", r"run\.json is not valid JSON"),
        ("[]", "other settings"),
        ("null", "other settings"),
        ('{"seed": "0"}', "other settings"),
    ],
)
def test_damaged_settings_are_named(folder, content, said):
    (folder / "run" / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StrokesError, match=said) as error:
        run(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"../ae.safetensors": 1}', '{"first.safetensors": [1]}'])
def test_damaged_checksums_are_named(folder, content):
    (folder / "run" / "files.json").write_text(content)
    with pytest.raises(StrokesError, match=r"files\.json .*delete it") as error:
        run(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line", ["rubbish", "[]", '{"part": 1, "step": 2}', '{"part": "first", "step": 1, "plan": "a"}']
)
def test_a_log_line_of_rubbish_is_named_before_any_training(folder, line):
    log = folder / "run" / "log.jsonl"
    first, *rest = log.read_text().splitlines()
    log.write_text("\n".join([first, line, *rest]) + "\n")
    with pytest.raises(StrokesError, match=r"log\.jsonl: line 2 is no line of a training log: delete that line"):
        run(folder)


def test_a_second_run_in_a_folder_at_work_ends_at_once_and_changes_nothing(folder):
    with RunLock(folder / "run" / "lock"):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(StrokesError, match=r"is in use by another run \(process \d+ on .*\)"):
            run(folder)
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run(folder)

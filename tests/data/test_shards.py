"""Shards: what is written is read, a cut-off build ends with the same files, and what is broken is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import SafetensorError

from strokes.data.samples import OneShotSample, RoundSample, StoredPicture
from strokes.data.shapes.build import DataPreset, readable, rounds
from strokes.data.shapes.build import build_synthetic as build_kind
from strokes.data.shards import MANIFEST, VERSION, ShardSet, build, from_record, to_record
from strokes.errors import StrokesError
from strokes.files import write_whole
from strokes.shapes.drawing import Shape

PRESET = DataPreset(one_shot=10, rounds=25, shard=10)


def build_synthetic(folder, preset, seed, workers=0, report=lambda *_: None):
    return [
        build_kind(folder, part, preset, seed, lambda done, of, part=part: report(part, done, of), workers)
        for part in ("one-shot", "rounds")
    ]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pictures(rng, count):
    return [
        StoredPicture(rng.integers(0, 256, (3, 64, 64), np.uint8), rng.normal(size=(16, 8, 8)).astype(np.float16))
        for _ in range(count)
    ]


@pytest.mark.slow
def test_a_build_is_the_same_twice_and_after_a_cut(tmp_path):
    class Cut(Exception):
        pass

    def cut(part, done, of):
        if (part, done) == ("rounds", 2):
            raise Cut

    build_synthetic(tmp_path / "whole", PRESET, 3)
    with pytest.raises(Cut):
        build_synthetic(tmp_path / "cut", PRESET, 3, report=cut)
    # A shard that was written, but not noted yet.
    (tmp_path / "cut" / "rounds" / "shard-00002.jsonl").write_text("half a li")
    build_synthetic(tmp_path / "cut", PRESET, 3)
    assert files(tmp_path / "whole") == files(tmp_path / "cut")
    build_synthetic(tmp_path / "workers", PRESET, 3, workers=2)
    assert files(tmp_path / "whole") == files(tmp_path / "workers")
    build_synthetic(tmp_path / "other", PRESET, 4)
    assert files(tmp_path / "whole") != files(tmp_path / "other")


def test_the_manifest_counts_what_is_there(tmp_path):
    one_shot, rounds = build_synthetic(tmp_path, PRESET, 0)
    assert (len(one_shot), len(rounds)) == (10, 25)
    samples = [rounds[i] for i in range(25)]
    kinds, steps = rounds.manifest["kinds"], rounds.manifest["steps"]
    assert sum(kinds.values()) == sum(steps.values()) == rounds.manifest["samples"] == 25
    assert kinds == {kind: sum(s.kind == kind for s in samples) for kind in kinds}
    assert all(isinstance(s, RoundSample) for s in samples) and isinstance(one_shot[9], OneShotSample)
    assert [row["samples"] for row in rounds.manifest["shards"]] == [10, 10, 5]


def test_painted_pictures_survive_and_are_kept_once(tmp_path):
    canvas, sketch = pictures(np.random.default_rng(0), 2)
    one = RoundSample(
        prompt="a red circle",
        canvas=canvas,
        instruction="add a red circle",
        description="a red circle",
        seen=sketch,
        kind="right",
    )
    two = RoundSample(prompt="a red circle", canvas=sketch)
    build(tmp_path, {}, 1, lambda i: [one, two])
    again = ShardSet(tmp_path)
    assert again[0].canvas.pixels.tobytes() == canvas.pixels.tobytes()
    assert again[0].seen.latents.tobytes() == sketch.latents.tobytes()
    assert again[0].seen is again[1].canvas
    kept: dict[StoredPicture, int] = {}
    assert from_record(to_record(one, kept), list(kept)) == one and len(kept) == 2


@pytest.mark.parametrize("harm", ["missing", "corrupt"])
def test_a_broken_shard_is_named_and_made_anew_with_the_others_kept(tmp_path, harm, caplog):
    build_synthetic(tmp_path, PRESET, 0)
    before = files(tmp_path)
    path = tmp_path / "rounds" / "shard-00001.jsonl"
    kept = (tmp_path / "rounds" / "shard-00000.jsonl").stat().st_mtime_ns
    path.unlink() if harm == "missing" else path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StrokesError, match="shard-00001 missing or corrupt"):
        ShardSet(tmp_path / "rounds")
    build_synthetic(tmp_path, PRESET, 0)
    assert [record.getMessage() for record in caplog.records if "shard-00001 missing or corrupt" in record.getMessage()]
    assert files(tmp_path) == before
    assert (tmp_path / "rounds" / "shard-00000.jsonl").stat().st_mtime_ns == kept


def test_data_of_other_settings_is_left_alone(tmp_path):
    build_synthetic(tmp_path, PRESET, 0)
    before = files(tmp_path)
    with pytest.raises(StrokesError, match="other settings"):
        build_synthetic(tmp_path, PRESET, 1)
    assert files(tmp_path) == before


def test_a_folder_without_a_manifest_or_of_another_version_is_refused(tmp_path):
    with pytest.raises(StrokesError, match="no manifest.json"):
        ShardSet(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"version": 99}))
    with pytest.raises(StrokesError, match="version 99"):
        ShardSet(tmp_path)
    for rest in ({}, {"settings": {}}, {"settings": {}, "shards": [{"name": "shard-00000"}]}):
        (tmp_path / MANIFEST).write_text(json.dumps({"version": VERSION, **rest}))
        with pytest.raises(StrokesError, match="does not list its shards"):
            ShardSet(tmp_path)


def test_a_full_disk_leaves_no_half_written_shard(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    build(tmp_path, {}, 1, lambda i: [OneShotSample("a red circle", [])])
    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(StrokesError, match=r"cannot write .*shard-00001.jsonl \(No space"):
        build(tmp_path, {}, 2, lambda i: [OneShotSample("a red circle", [])])
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, "shard-00000.jsonl"]
    assert len(ShardSet(tmp_path)) == 1


def test_a_disk_that_fills_up_under_the_weights_names_the_file(tmp_path):
    """safetensors has an error of its own for it. /dev/full would do, but safetensors as root replaces it by a file."""

    def write(path):
        path.write_bytes(b"half a file")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(StrokesError, match=r"cannot write .*first.safetensors \(Error while .*No space left"):
        write_whole(tmp_path / "first.safetensors", write)
    assert not list(tmp_path.iterdir())


def test_only_pictures_that_can_be_read_are_kept():
    clear, touching = (
        Shape(colour="red", kind="circle", x=20, y=20, r=9),
        Shape(colour="red", kind="circle", x=34, y=20, r=9),
    )
    wrong = RoundSample(
        prompt="a red circle",
        canvas=None,
        instruction="add a red circle",
        description="a red circle",
        sketch=[clear],
        seen=[touching, clear],
    )
    samples = [OneShotSample("a red circle", [clear]), OneShotSample("two red circles", [clear, touching]), wrong]
    assert readable(samples) == [samples[0], wrong], "what is seen may be wrong, what is painted may not"
    kept = list(rounds(DataPreset(rounds=40, shard=40), 0, 0))
    assert len(kept) == 40 and readable(kept) == kept

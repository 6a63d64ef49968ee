"""The ablations at toy length: every variant is trained on what it says, measured, and found again."""

from __future__ import annotations

import json

import pytest
from accelerate import Accelerator
from PIL import Image

from strokes.data.shards import ShardSet
from strokes.recipes.ablations import BASE, PRESETS, TABLES, VARIANTS, AblationRun

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("ablations")
    return AblationRun(out, PRESETS["toy"], 0, Accelerator(cpu=True), lambda *_: None)()


def test_every_variant_has_its_row(folder):
    results = json.loads((folder / "table.json").read_text())
    assert list(results) == [BASE, *(variant.name for variant in VARIANTS)]
    table = (folder / "table.md").read_text()
    assert all(f"| {name} |" in table for name in results) and all(f"**{title}**" in table for title in TABLES)
    assert len({line.count("|") for line in table.splitlines()}) == 1
    with Image.open(folder / "plot.png") as picture:
        assert picture.width > 1000


def test_every_variant_trains_on_what_it_says(folder):
    def kinds(name):
        manifest = ShardSet(folder / "data" / name / "rounds").manifest
        return set(manifest["kinds"]), set(manifest["steps"])

    assert len({variant.data for variant in VARIANTS}) == 6
    for variant in VARIANTS:
        seen, steps = kinds(variant.data)
        mix = variant.mix
        assert ("wrong picture" in seen) <= (mix.wrong > 0), variant.name
        assert ("wrong step" in seen) <= (mix.conflict > 0), variant.name
        assert ("plan" in seen) == (not mix.inspected) and mix.inspected == any("right" in kind for kind in seen)
        if not mix.damaged_canvas:
            assert steps <= {"add", "paint", "end"}, variant.name
        assert (folder / "data" / variant.name / "own").exists() == bool(variant.own)


def test_what_is_done_is_found_again(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    parts = []
    AblationRun(folder, PRESETS["toy"], 0, Accelerator(cpu=True), lambda part, *_: parts.append(part))()
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert all(part.startswith("data: ") for part in parts)

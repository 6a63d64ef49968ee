"""A training run that version 0.1.0 saved, cut off at step 102 of a stage, goes on and finishes.

``fixtures/README.md`` says how it was made. Its autoencoder is that of the golden set, which is not kept twice.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from accelerate import Accelerator

from strokes.data.shapes.build import DataPreset
from strokes.data.shapes.rollouts import ShapesSelfSampling
from strokes.models import open_painter
from strokes.recipes.autoencoder import AutoencoderPreset
from strokes.recipes.embedded import EmbeddedPreset, EmbeddedRun
from strokes.recipes.network import NetworkSize
from strokes.training.presets import StagePreset

TESTS = Path(__file__).parents[1]
PRESET = EmbeddedPreset(
    autoencoder=AutoencoderPreset(widths=(32, 32, 32, 32), steps=2, batch=2),
    size=NetworkSize(
        hidden=8, intermediate=8, layers=1, heads=1, kv_heads=1, vision_hidden=8, vision_layers=1, vision_heads=1
    ),
    data=DataPreset(one_shot=8, rounds=8, shard=8),
    first=StagePreset(steps=104, batch=2, one_shot=(0.5, 0.5), warmup=1),
    own=ShapesSelfSampling(processes=2, shard=2, width=2),
    second=(StagePreset(steps=104, batch=4, one_shot=(0.25, 0.25), own=0.5, warmup=1),),
)


@pytest.mark.slow
def test_a_run_of_version_0_1_goes_on_from_its_state_and_finishes(tmp_path):
    saved = TESTS / "fixtures" / "run-0.1"
    folder = Path(shutil.copytree(saved, tmp_path / "run-0.1"))
    shutil.copyfile(TESTS / "golden" / "toy" / "model" / "ae.safetensors", folder / "ae.safetensors")
    steps: dict[str, list[int]] = {}

    def report(part, done, of, losses):
        steps.setdefault(part, []).append(done)

    EmbeddedRun(folder, PRESET, 0, Accelerator(cpu=True), report)()
    assert steps["first"] == [101, 102, 103, 104] and steps["second-1"] == list(range(1, 105))
    assert "autoencoder" not in steps and steps["data: rounds"] == [1], "what was there is found"
    for name in ("run/run.json", "run/data/rounds/manifest.json", "run/data/one-shot/manifest.json", "tokenizer.json"):
        assert (folder / name).read_bytes() == (saved / name).read_bytes()
    assert open_painter(folder).profile.name == "strokes-embedded"

"""Shared fixtures: a toy model folder made by the project's own training, seconds long and as good as random."""

from __future__ import annotations

import shutil

import pytest
from accelerate import Accelerator
from hypothesis import settings
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import load
from strokes.recipes.embedded import PRESETS, EmbeddedRun

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("strokes", deadline=None)
settings.load_profile("strokes")


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "toy"
    return EmbeddedRun(folder, PRESETS["toy"], 0, Accelerator(cpu=True), lambda *_: None)()


@pytest.fixture(scope="session")
def endless_folder(toy_folder, tmp_path_factory):
    """The toy made never to write the end of a text: whether its random weights do depends on the machine."""
    folder = tmp_path_factory.mktemp("models") / "endless"
    shutil.copytree(toy_folder, folder, ignore=shutil.ignore_patterns("run"))
    weights = load_file(folder / "ema.safetensors")
    end = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("<|im_end|>")
    weights["language_model.lm_head.weight"][end] = 0
    save_file(weights, folder / "ema.safetensors")
    return folder


@pytest.fixture(scope="session")
def toy_checkpoint(toy_folder):
    return load(toy_folder)


@pytest.fixture
def toy_painter(toy_checkpoint):
    return BagelPainter(toy_checkpoint)

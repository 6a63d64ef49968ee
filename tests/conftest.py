"""Shared fixtures: a toy model folder made by the project's own training, seconds long and as good as random."""

from __future__ import annotations

import pytest
import torch

from strokes.bagel.checkpoint import load
from strokes.bagel.painter import BagelPainter
from strokes.training.embedded import PRESETS, train_embedded


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "toy"
    return train_embedded(folder, PRESETS["toy"], 0, torch.device("cpu"), lambda *_: None)


@pytest.fixture(scope="session")
def toy_checkpoint(toy_folder):
    return load(toy_folder)


@pytest.fixture
def toy_painter(toy_checkpoint):
    return BagelPainter(toy_checkpoint)

"""What version 0.1.0 saved opens now and goes on; how the files were made stands in ``fixtures/README.md``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from strokes.models import EMBEDDED, open_painter
from strokes.process import stages, store

FIXTURES = Path(__file__).parent / "fixtures"
SAVED = FIXTURES / "trajectory-0.1"


@pytest.fixture
def trajectory():
    return store.load(SAVED)


def test_a_trajectory_is_what_it_was(trajectory):
    assert (trajectory.prompt, trajectory.size) == ("a red square, a blue circle and a green cross", (64, 64))
    assert (trajectory.model, trajectory.stage, len(trajectory.rounds)) == ("strokes-embedded", "sketch", 3)
    first, second, third = trajectory.rounds
    assert first.plan.text == "<ins> paint the red square again </ins> <des> a red square </des>"
    assert first.critique.correction == "change the blue circle to a cyan circle" and not first.critique.accepted
    assert [turn.origin.author for turn in trajectory.turns] == [
        "model", "model", "user", "model", "user", "model", "model", "user", "model",
    ]  # fmt: skip
    assert first.sketch.origin.seed == 3 and second.sketch.origin.seed == 4
    assert first.sketch.origin.settings["steps"] == 12 and third.sketch is None
    for name, picture in trajectory.pictures:
        (file,) = (SAVED / "pictures").glob(f"{name}-*.png")
        with Image.open(file) as image:
            assert np.array_equal(np.asarray(image), np.asarray(picture.image))
        latents = file.with_suffix(".safetensors")
        assert latents.exists() == (picture.latents is not None)
        if picture.latents is not None:
            assert np.array_equal(load_file(latents)["latents"], picture.latents)


def test_it_is_saved_again_as_it_was(trajectory, tmp_path):
    store.save(trajectory, tmp_path)
    for path in SAVED.rglob("*.*"):
        assert (tmp_path / path.relative_to(SAVED)).read_bytes() == path.read_bytes()


def test_it_goes_on(trajectory):
    painter = open_painter(EMBEDDED)
    done = stages.inspect(painter, stages.sketch(painter, trajectory, seed=5), seed=5)
    assert done.stage == "refine" and done.picture.image.size == (64, 64)

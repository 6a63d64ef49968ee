"""What needs a CUDA device; skipped without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from strokes.bagel.painter import BagelPainter
from strokes.bagel.weights.checkpoint import load
from strokes.process import oneshot
from strokes.process.settings import PaintOverrides
from strokes.recipes.embedded import PRESETS, EmbeddedRun

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: GPU tests need one"),
]
QUICK = PaintOverrides(steps=4, text_guidance=2.0, interval=(0.0, 1.0))


def test_a_picture_on_the_gpu_is_the_cpus_up_to_rounding(toy_folder):
    painted = [
        oneshot.text_to_image(BagelPainter(load(toy_folder, device)), "a red circle", settings=QUICK, seed=1).picture
        for device in ("cpu", "cuda")
    ]
    assert np.abs(painted[0].latents - painted[1].latents).max() < 2e-2


def test_bfloat16_stays_near_float32(toy_folder):
    single, half = (
        oneshot.text_to_image(
            BagelPainter(load(toy_folder, "cuda", dtype)), "a red circle", settings=QUICK, seed=1
        ).picture
        for dtype in (torch.float32, torch.bfloat16)
    )
    difference = np.linalg.norm(single.latents - half.latents) / np.linalg.norm(single.latents)
    assert difference < 0.05


def test_training_runs_on_the_gpu(tmp_path):
    accelerator = Accelerator(mixed_precision="bf16")
    folder = EmbeddedRun(tmp_path / "model", PRESETS["toy"], 0, accelerator, lambda *_: None)()
    assert load(folder, "cuda").model.config.language.hidden_size == 32

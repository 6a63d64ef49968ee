"""Opening a large checkpoint takes address space, not memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic_bagel as synthetic

from strokes.bagel.network.autoencoder import build, to_original_names
from strokes.bagel.network.config import LanguageConfig
from strokes.bagel.weights.recognise import expected_shapes

ROOT = Path(__file__).parent.parent.parent

# Prints how much anonymous memory grew while the folder was opened, and how large the network is, both in bytes.
PROGRAM = """
import re, sys
from pathlib import Path
import diffusers, transformers, torch
from strokes.bagel.painter import BagelPainter
from strokes.models import open_painter

def anonymous():
    return 1024 * sum(map(int, re.findall(r"^Anonymous: +([0-9]+) kB", Path("/proc/self/smaps").read_text(), re.M)))

before = anonymous()
painter = open_painter(sys.argv[1])
print(anonymous() - before, sum(p.nbytes for p in painter.checkpoint.model.parameters()))
"""

FLUX = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="smaps is Linux's")
def test_opening_4_gb_takes_no_second_copy(tmp_path):
    import torch

    language = LanguageConfig(
        vocab_size=65536,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=128,
    )
    folder = synthetic.write_companions(tmp_path / "model")
    network = expected_shapes(replace(synthetic.CONFIG, language=language, vision=None))
    synthetic.write_sparse(folder / "ema.safetensors", network)
    with torch.device("meta"):
        autoencoder = to_original_names(build(FLUX))
    synthetic.write_sparse(folder / "ae.safetensors", {k: tuple(t.shape) for k, t in autoencoder.items()}, "F32")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    grown, size = json.loads(f"[{done.stdout.replace(' ', ',')}]")
    print(f"\n{size / 1e9:.2f} GB opened, {grown / 1e6:.1f} MB more anonymous memory")
    assert size > 4e9 and grown < 300e6

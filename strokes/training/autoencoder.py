"""Training of the embedded model's autoencoder: FLUX's shape at small width, on rendered scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..bagel.autoencoder import SCALE, build, to_original_names
from .scene_graph import PromptMix, sample_scene
from .shapes import COLOURS, KINDS, RADIUS, UNIT, Shape, render


@dataclass(frozen=True)
class AutoencoderPreset:
    """Width and length of the run; ``widths`` are multiples of 32 because FLUX normalises in 32 groups."""

    widths: tuple[int, ...] = (32, 32, 64, 64)
    latent_channels: int = 16
    steps: int = 4000
    batch: int = 32
    learning_rate: float = 2e-3
    kl_weight: float = 3e-4


def _sample_pictures(rng: np.random.Generator, batch: int, device: torch.device) -> Tensor:
    """Half true scenes, half any shapes anywhere (also touching), so that wrong pictures survive the round trip."""
    scenes = []
    for i in range(batch):
        if i % 2:
            scenes.append(sample_scene(rng, PromptMix())[1])
        else:
            scenes.append(
                [
                    Shape(COLOURS[rng.integers(8)], KINDS[rng.integers(5)], *rng.uniform(8, UNIT - 8, 2), rng.uniform(*RADIUS))
                    for _ in range(rng.integers(0, 6))
                ]
            )
    return render(scenes, device=device) * 2 - 1


def train_autoencoder(
    preset: AutoencoderPreset, seed: int, device: torch.device, report: Callable[[int, dict[str, float]], None]
) -> dict[str, Tensor]:
    """Returns tensors under FLUX's names, scaled so that FLUX's constants normalise the latents to unit variance."""
    torch.manual_seed(seed)
    levels = len(preset.widths)
    module = build(
        {
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": preset.widths,
            "layers_per_block": 1,
            "latent_channels": preset.latent_channels,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        }
    ).to(device)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=preset.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, preset.learning_rate, total_steps=preset.steps, pct_start=0.05
    )
    for step in range(preset.steps):
        pictures = _sample_pictures(rng, preset.batch, device)
        posterior = module.encode(pictures).latent_dist
        decoded = module.decode(posterior.sample()).sample
        l1 = (decoded - pictures).abs().mean()
        mse = ((decoded - pictures) ** 2).mean()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        optimizer.zero_grad(set_to_none=True)
        (l1 + mse + preset.kl_weight * kl).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == preset.steps - 1:
            report(step, {"l1": l1.item(), "mse": mse.item(), "kl": kl.item()})
    _normalise(module, _sample_pictures(rng, 256, device))
    return to_original_names(module.cpu())


@torch.no_grad()
def _normalise(module: nn.Module, pictures: Tensor) -> None:
    """Fold a factor into the last encoder and first decoder convolution so that means have deviation 1/0.3611."""
    means = module.encode(pictures).latent_dist.mean  # type: ignore[operator]
    factor = float(1 / SCALE / means.std())
    channels = means.shape[1]
    out = module.encoder.conv_out  # type: ignore[union-attr]
    out.weight[:channels] *= factor
    out.bias[:channels] *= factor
    out.bias[channels:] += 2 * float(np.log(factor))
    module.decoder.conv_in.weight /= factor  # type: ignore[union-attr]

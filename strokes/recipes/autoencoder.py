"""Training of the embedded model's autoencoder: FLUX's shape at small width, on rendered scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..bagel.network.autoencoder import SCALE, build, to_original_names
from ..shapes.drawing import COLOURS, GROUND, KINDS, RADIUS, UNIT, Shape, render, table
from ..shapes.sampling import PromptMix, sample_scene

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreset:
    """Widths, training length and loss weights of the autoencoder.

    ``widths``, one a level, are multiples of 32, because FLUX normalises in 32 groups. ``shape_weight`` is the weight of
    pixels that are no ground.
    """

    widths: tuple[int, ...] = (32, 32, 64, 64)
    latent_channels: int = 16
    steps: int = 2300
    batch: int = 16
    learning_rate: float = 2e-3
    kl_weight: float = 2e-4
    shape_weight: float = 4.0
    ema: float = 0.99


def sample_pictures(rng: np.random.Generator, batch: int, device: torch.device) -> Tensor:
    """Random pictures ``[B, 3, H, W]`` in −1…1, to train the autoencoder on.

    Half show scenes of prompts, half random shapes at random places, also touching ones: wrong pictures have to be encoded
    as well as right ones.
    """
    scenes = []
    for i in range(batch):
        if i % 2:
            scenes.append(sample_scene(rng, PromptMix())[1])
        else:
            scenes.append([_anywhere(rng) for _ in range(rng.integers(0, 6))])
    return render(table(scenes).to(device)) * 2 - 1


def _anywhere(rng: np.random.Generator) -> Shape:
    x, y = (float(c) for c in rng.uniform(8, UNIT - 8, 2))
    return Shape(
        colour=COLOURS[rng.integers(len(COLOURS))],
        kind=KINDS[rng.integers(len(KINDS))],
        x=x,
        y=y,
        r=float(rng.uniform(*RADIUS)),
    )


def train_autoencoder(
    preset: AutoencoderPreset, seed: int, device: torch.device, report: Callable[[int, dict[str, float]], None]
) -> dict[str, Tensor]:
    """The autoencoder's averaged (EMA) tensors under FLUX's names, with latents of the scale that FLUX's constants expect."""
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
    average = [p.detach().clone() for p in module.parameters()]
    optimizer = torch.optim.AdamW(module.parameters(), lr=preset.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, preset.learning_rate, total_steps=preset.steps, pct_start=0.05
    )
    ground = torch.tensor(GROUND, device=device)[None, :, None, None] / 127.5 - 1
    for step in range(preset.steps):
        pictures = sample_pictures(rng, preset.batch, device)
        # Most of a picture is ground: shapes and their edges count more.
        weight = 1 + (preset.shape_weight - 1) * ((pictures - ground).abs().amax(1, keepdim=True) > 0.05)
        posterior = module.encode(pictures).latent_dist
        error = module.decode(posterior.sample()).sample - pictures
        l1, mse = (error.abs() * weight).mean(), (error**2 * weight).mean()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        optimizer.zero_grad(set_to_none=True)
        (l1 + mse + preset.kl_weight * kl).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        decay = min(preset.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in module.parameters()], 1 - decay)
        report(step, {"l1": error.abs().mean().item(), "mse": mse.item(), "kl": kl.item()})
    for parameter, value in zip(module.parameters(), average, strict=True):
        parameter.data.copy_(value)
    normalise(module, sample_pictures(rng, 256, device))
    return to_original_names(module.cpu())


@torch.no_grad()
def normalise(module: AutoencoderKL, pictures: Tensor) -> None:
    """Scale the last encoder and the first decoder convolution so that the latents of ``pictures`` have standard deviation
    1/0.3611, FLUX's scale factor."""
    means = module.encode(pictures).latent_dist.mean
    factor = float(1 / SCALE / means.std())
    channels = means.shape[1]
    out = module.encoder.conv_out
    out.weight[:channels] *= factor
    out.bias[:channels] *= factor
    out.bias[channels:] += 2 * float(np.log(factor))
    module.decoder.conv_in.weight /= factor

"""Training of the network on shards: the paper's objective (text, the start/stop tokens, flow matching), one stage a call.

One sample is one packed sequence: a prompt and a picture painted in one go, or a whole round of the process. Every batch
is a function of (seed, step), so a run that was cut off goes on from its last saved step to the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..bagel.network.autoencoder import Autoencoder
from ..bagel.network.config import SpecialTokens
from ..bagel.network.model import Bagel
from ..bagel.network.packed import Losses, Packed, training_forward
from ..bagel.network.vision import patchify
from ..errors import StrokesError
from .packing import LOSSES, Batch, Batcher
from .presets import StagePreset
from .state import RunState
from .stream import BatchStream, Sources


class Objective(nn.Module):
    """The weighted sum of the losses, as one module, so that several processes can share a step."""

    label_weights: Tensor

    def __init__(self, model: Bagel, preset: StagePreset, label_weights: Tensor):
        super().__init__()
        self.model, self.preset = model, preset
        self.register_buffer("label_weights", label_weights)

    def forward(self, packed: Packed) -> tuple[Tensor, Losses]:
        """The loss, and what it is made of, not reduced: cross-entropy is weighted by label, flow matching is not."""
        latents = packed.latents
        assert isinstance(latents, Tensor)
        noise = patchify(torch.randn_like(latents), self.model.config.latent_patch_size).flatten(0, 1)
        losses = training_forward(self.model, packed, noise, self.preset.shift)
        weights = self.label_weights[packed.labels.to(noise.device)]
        text = (losses.ce * weights).sum() / weights.sum()
        return self.preset.text_weight * text + losses.mse.mean(), losses


# Called after each step: (step, means of the losses and what else there is to see).
OnTrainStep = Callable[[int, dict[str, float]], None]


def train(
    model: Bagel,
    preset: StagePreset,
    sources: Sources,
    tokenizer,
    special: SpecialTokens,
    autoencoder: Autoencoder,
    canvas: int,
    seed: int,
    accelerator: Accelerator,
    report: OnTrainStep,
    resume: Path | None = None,
    save_every: int = 100,
    workers: int = 0,
) -> Bagel:
    """Train a network in place and return it with its averaged weights.

    ``resume`` is a folder that keeps the state of the run every ``save_every`` steps and from which it goes on.
    """
    if preset.own and not sources.own:
        raise StrokesError("this stage trains on self-sampled rounds, and there are none")
    device = accelerator.device
    model.to(device).train()
    optimizer = torch.optim.AdamW(_parameter_groups(model), lr=preset.learning_rate, betas=(0.9, 0.95), eps=1e-12)
    run = RunState(model, optimizer)
    start = run.load(resume) if resume else 0
    objective = Objective(model, preset, label_weights(tokenizer, special).to(device))
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    batcher = Batcher(tokenizer, special, model.config, canvas, preset.noise_levels, preset.text_free)
    process = (accelerator.process_index, accelerator.num_processes)
    stream = DataLoader(
        BatchStream(sources, preset, batcher, seed, process),
        batch_size=None, sampler=range(start, preset.steps), num_workers=workers, prefetch_factor=4 if workers else None,
    )  # fmt: skip
    began = time.perf_counter()
    for step, batch in stream:
        torch.manual_seed((seed * 1_000_003 + step) * process[1] + process[0])
        packed = batch.painted(autoencoder, canvas, device)
        with accelerator.autocast():
            loss, losses = wrapped(packed)
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = preset.learning_rate * preset.rate(step)
        optimizer.step()
        run.update_ema(min(preset.ema, (1 + step) / (10 + step)))
        seen = {"norm": float(norm), "rows": packed.rows, "seconds": time.perf_counter() - began}
        report(step, by_kind(losses, batch) | seen)
        last = step + 1 == preset.steps
        if resume and accelerator.is_main_process and ((step + 1) % save_every == 0 or last):
            run.save(resume, step + 1)
    run.swap_in_ema()
    return model.eval()


def by_kind(losses: Losses, batch: Batch) -> dict[str, float]:
    """The mean of each kind of loss that the batch has."""
    values = torch.cat(
        (losses.ce.detach(), losses.mse.detach().mean(1).unflatten(0, (len(batch.target_of), -1)).mean(1))
    )
    kinds = torch.cat((batch.label_of, batch.target_of)).to(values.device)
    sums, counts = torch.zeros(2, len(LOSSES), device=values.device)
    sums.index_add_(0, kinds, values)
    counts.index_add_(0, kinds, torch.ones_like(values))
    pairs = zip(LOSSES, sums.tolist(), counts.tolist(), strict=True)
    return {name: total / count for name, total, count in pairs if count}


def label_weights(tokenizer, special: SpecialTokens) -> Tensor:
    """Weight of each label ``[V]``: verdicts and the end are one token each among many easy ones, and count more."""
    weight = torch.ones(tokenizer.get_vocab_size())
    for word in ("correct", "wrong", "nothing", "rest"):
        weight[tokenizer.token_to_id(word)] = 3.0
    weight[special.eos] = 2.0
    return weight


def _parameter_groups(model: Bagel) -> list[dict]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim == 2], "weight_decay": 0.01},
        {"params": [p for p in trained if p.ndim != 2], "weight_decay": 0.0},
    ]

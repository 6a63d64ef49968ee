"""The training loop: one stage of training on shards, with the paper's objective.

The objective is cross-entropy of texts and of the start and stop tokens, and flow matching of pictures. A pack is a whole
round of the process, or a prompt and its picture painted in one go. Every batch and all noise are functions of
(seed, step), so a stage that was cut off goes on from its last saved step to the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from .checksums import Checksums
from .packing import LOSSES, Batch, Batcher, SampleFormat
from .presets import StagePreset
from .state import RunState
from .stream import BatchStream, Sources

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EMPHASIS = 3.0
END_WEIGHT = 2.0

# Called after each step: (step, mean of each loss kind, and norm, rows, seconds).
OnTrainStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a stage is run.

    seed: seeds batches and noise; the only one that changes the weights.
    report: called after each step.
    resume: folder of the saved state, from which the stage goes on; None saves nothing.
    checksums: those of the run, which then also cover the state.
    save_every: steps between two saved states; the last step is saved too.
    workers: processes that make batches; 0 makes them in this one.
    """

    seed: int
    report: OnTrainStep = lambda step, losses: None
    resume: Path | None = None
    checksums: Checksums | None = None
    save_every: int = 100
    workers: int = 0


class Objective(nn.Module):
    """The weighted sum of the losses, as one module, so that several processes can share a step."""

    label_weights: Tensor

    def __init__(self, model: Bagel, preset: StagePreset, label_weights: Tensor):
        super().__init__()
        self.model, self.preset = model, preset
        self.register_buffer("label_weights", label_weights)

    def forward(self, packed: Packed) -> tuple[Tensor, Losses]:
        """The loss, a scalar, and its unreduced parts. Cross-entropy is weighted by label, flow matching is not."""
        latents = packed.latents
        assert isinstance(latents, Tensor)
        noise = patchify(torch.randn_like(latents), self.model.config.latent_patch_size).flatten(0, 1)
        losses = training_forward(self.model, packed, noise, self.preset.shift)
        weights = self.label_weights[packed.labels.to(noise.device)]
        text = (losses.ce * weights).sum() / weights.sum()
        return self.preset.text_weight * text + losses.mse.mean(), losses


def train(
    model: Bagel,
    preset: StagePreset,
    sources: Sources,
    sample_format: SampleFormat,
    autoencoder: Autoencoder,
    accelerator: Accelerator,
    options: RunOptions,
) -> Bagel:
    """Train ``model`` in place and return it with its averaged (EMA) weights, in evaluation mode.

    Raises StrokesError for a stage on self-sampled rounds without any, a word to emphasise that is no token, and a saved
    state that is damaged or of another network.
    """
    if preset.own and not sources.self_sampled:
        raise StrokesError("this stage trains on self-sampled rounds, and there are none")
    weights = label_weights(sample_format.tokenizer, sample_format.special, sample_format.emphasised)
    device = accelerator.device
    model.to(device).train()
    plain = torch.optim.AdamW(_parameter_groups(model), lr=preset.learning_rate, betas=(0.9, 0.95), eps=1e-12)
    state = RunState(model, plain, options.checksums)
    start = state.load(options.resume, preset.steps) if options.resume else 0
    objective, optimizer = accelerator.prepare(Objective(model, preset, weights.to(device)), plain)
    batcher = Batcher(sample_format, model.config, preset.noise_levels, preset.text_free)
    began = time.perf_counter()
    for step, batch in _batches(sources, preset, batcher, start, accelerator, options):
        torch.manual_seed((options.seed * 1_000_003 + step) * accelerator.num_processes + accelerator.process_index)
        packed = batch.with_pictures(sample_format, autoencoder, device)
        losses, norm = _optimise(objective, packed, optimizer, accelerator, preset.learning_rate * preset.rate(step))
        state.update_ema(min(preset.ema, (1 + step) / (10 + step)))
        others = {"norm": norm, "rows": packed.rows, "seconds": time.perf_counter() - began}
        options.report(step, by_kind(losses, batch) | others)
        if accelerator.is_main_process and _is_saved(step + 1, preset, options) and options.resume:
            state.save(options.resume, step + 1)
    state.swap_in_ema()
    return model.eval()


def _batches(
    sources: Sources, preset: StagePreset, batcher: Batcher, start: int, accelerator: Accelerator, options: RunOptions
) -> Iterator[tuple[int, Batch]]:
    """(step, this process's part of the batch) from step ``start`` to the last."""
    process = (accelerator.process_index, accelerator.num_processes)
    yield from DataLoader(
        BatchStream(sources, preset, batcher, options.seed, process),
        batch_size=None,
        sampler=range(start, preset.steps),
        num_workers=options.workers,
        prefetch_factor=4 if options.workers else None,
    )


def _optimise(
    objective: nn.Module, packed: Packed, optimizer: torch.optim.Optimizer, accelerator: Accelerator, rate: float
) -> tuple[Losses, float]:
    """One optimiser step at learning rate ``rate``: the losses, and the norm of the gradient before it was clipped to 1."""
    with accelerator.autocast():
        loss, losses = objective(packed)
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(objective.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return losses, float(norm)


def _is_saved(done: int, preset: StagePreset, options: RunOptions) -> bool:
    return done % options.save_every == 0 or done == preset.steps


def by_kind(losses: Losses, batch: Batch) -> dict[str, float]:
    """The mean of each loss kind that the batch has."""
    values = torch.cat(
        (losses.ce.detach(), losses.mse.detach().mean(1).unflatten(0, (len(batch.target_of), -1)).mean(1))
    )
    kinds = torch.cat((batch.label_of, batch.target_of)).to(values.device)
    sums, counts = torch.zeros(2, len(LOSSES), device=values.device)
    sums.index_add_(0, kinds, values)
    counts.index_add_(0, kinds, torch.ones_like(values))
    pairs = zip(LOSSES, sums.tolist(), counts.tolist(), strict=True)
    return {name: total / count for name, total, count in pairs if count}


def label_weights(tokenizer: Tokenizer, special: SpecialTokens, emphasised: tuple[str, ...]) -> Tensor:
    """Weight of each label ``[V]``: 3 for ``emphasised`` words, 2 for the end of a text, 1 for the rest.

    A verdict and the end are one token each among many easy ones. Raises StrokesError as :func:`token_of` does.
    """
    weight = torch.ones(tokenizer.get_vocab_size())
    for word in emphasised:
        weight[token_of(tokenizer, word)] = EMPHASIS
    weight[special.eos] = END_WEIGHT
    return weight


def token_of(tokenizer: Tokenizer, word: str) -> int:
    """Id of the one token that ``word`` is inside a text.

    Byte-pair vocabularies have one token for the word at the start of a text and another for the word behind a space;
    what a model writes is the second. Raises StrokesError that names a word which is no token, or several.
    """
    # A word behind itself, less the first: no other word has to be in the vocabulary.
    first = tokenizer.encode(word, add_special_tokens=False).ids
    ids = tokenizer.encode(f"{word} {word}", add_special_tokens=False).ids[len(first) :]
    if len(ids) > 1:
        pieces = " ".join(repr(tokenizer.decode([i], skip_special_tokens=False)) for i in ids)
        raise StrokesError(
            f"the tokenizer writes '{word}' as {len(ids)} tokens ({pieces}): only a word that is one token can be emphasised"
        )
    if not ids or tokenizer.decode(ids, skip_special_tokens=False).strip().casefold() != word.casefold():
        raise StrokesError(f"the tokenizer lacks the word '{word}', which is to be emphasised: leave it out")
    return ids[0]


def _parameter_groups(model: Bagel) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim == 2], "weight_decay": 0.01},
        {"params": [p for p in trained if p.ndim != 2], "weight_decay": 0.0},
    ]

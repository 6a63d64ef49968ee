"""Training of the network on shards: the paper's objective (text, the start/stop tokens, flow matching), one stage a call.

One sample is one packed sequence: a prompt and a picture painted in one go, or a whole round of the process. Every batch
is a function of (seed, step), so a run that was cut off goes on from its last saved step to the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ..bagel.network.autoencoder import Autoencoder
from ..bagel.network.config import BagelConfig, LanguageConfig, SpecialTokens, VisionConfig
from ..bagel.network.model import Bagel
from ..bagel.network.packed import Losses, Packed, training_forward
from ..bagel.network.vision import patchify
from ..data.samples import Sample
from ..data.shards import ShardSet
from ..errors import StrokesError
from ..files import check_same_shapes, open_safetensors, shapes_of, write_whole
from ..shapes.drawing import UNIT
from .packing import LOSSES, Batch, Batcher


@dataclass(frozen=True)
class NetworkSize:
    """Sizes of the small network; canvas sides are at most ``canvas`` pixels."""

    hidden: int = 192
    intermediate: int = 512
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    vision_hidden: int = 128
    vision_layers: int = 2
    vision_heads: int = 4
    vision_patch: int = 16
    canvas: int = UNIT

    def config(self, vocab_size: int, latent_channels: int) -> BagelConfig:
        return BagelConfig(
            language=LanguageConfig(
                vocab_size, self.hidden, self.intermediate, self.layers, self.heads, self.kv_heads,
                self.hidden // self.heads, rope_theta=10000.0,
            ),
            vision=VisionConfig(
                self.vision_hidden, 2 * self.vision_hidden, self.vision_layers, self.vision_heads,
                self.vision_patch, self.canvas // self.vision_patch,
            ),
            latent_patch_size=2,
            latent_channels=latent_channels,
            max_latent_size=self.canvas // 16,
        )  # fmt: skip


@dataclass(frozen=True)
class StagePreset:
    """Length and mix of one stage of training.

    Of ``batch`` samples a step, a share is one-shot; it moves linearly from ``one_shot[0]`` to ``one_shot[1]`` in the
    first ``ramp`` steps. Of the rounds, ``own`` are self-sampled.
    """

    steps: int = 4000
    batch: int = 48
    one_shot: tuple[float, float] = (0.6, 0.35)
    ramp: int = 1500
    own: float = 0.0
    noise_levels: int = 3
    # Where a shape goes is decided at t above 0.85, which plain logit-normal times hardly visit.
    shift: float = 3.0
    learning_rate: float = 2e-3
    warmup: int = 200
    decay: float = 0.3
    ema: float = 0.999
    text_weight: float = 0.3
    text_free: float = 0.1

    def rate(self, step: int) -> float:
        """Factor of the learning rate: linear warm-up, constant, linear fall to zero over the last ``decay`` of the stage."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / (self.decay * self.steps))


@dataclass(frozen=True)
class Sources:
    """Where samples come from; ``own`` are self-sampled rounds."""

    one_shot: ShardSet
    rounds: ShardSet | None = None
    own: ConcatDataset[Sample] | None = None


def draw(sources: Sources, preset: StagePreset, step: int, rng: np.random.Generator) -> list[Sample]:
    """The samples of a step."""
    first, last = preset.one_shot
    share = first + (last - first) * min(1.0, step / preset.ramp)
    one_shot = round(share * preset.batch)
    own = round(preset.own * (preset.batch - one_shot))
    parts = ((sources.one_shot, one_shot), (sources.rounds, preset.batch - one_shot - own), (sources.own, own))
    return [
        shards[int(i)] for shards, count in parts if shards and count for i in rng.integers(len(shards), size=count)
    ]


class BatchStream(Dataset):
    """The batch of each step, a function of (seed, step, process) alone, so that workers and resumed runs draw the same."""

    def __init__(self, sources: Sources, preset: StagePreset, batcher: Batcher, seed: int, process: tuple[int, int]):
        self.sources, self.preset, self.batcher, self.seed, self.process = sources, preset, batcher, seed, process

    def __getitem__(self, step: int) -> tuple[int, Batch]:
        rank, processes = self.process
        samples = draw(self.sources, self.preset, step, np.random.default_rng((self.seed, step)))[rank::processes]
        return step, self.batcher(samples, np.random.default_rng((self.seed, step, 1 + rank)))


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
Report = Callable[[int, dict[str, float]], None]


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
    report: Report,
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
        run.follow(min(preset.ema, (1 + step) / (10 + step)))
        seen = {"norm": float(norm), "rows": packed.rows, "seconds": time.perf_counter() - began}
        report(step, by_kind(losses, batch) | seen)
        last = step + 1 == preset.steps
        if resume and accelerator.is_main_process and ((step + 1) % save_every == 0 or last):
            run.save(resume, step + 1)
    run.take_average()
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


class RunState:
    """All that a run needs to go on: weights, their average, the optimizer's moments, the step."""

    def __init__(self, model: Bagel, optimizer: torch.optim.Optimizer):
        self.parameters = dict(model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer = optimizer

    def follow(self, decay: float) -> None:
        """Move the average towards the weights."""
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.parameters.values()], 1 - decay)

    def take_average(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data.copy_(self.average[name])

    def save(self, folder: Path, step: int) -> None:
        from safetensors.torch import save_file

        tensors = {f"average.{name}": value for name, value in self.average.items()}
        for name, p in self.parameters.items():
            tensors[f"model.{name}"] = p.detach()
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        whole = {name: value.contiguous() for name, value in tensors.items()}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "state.safetensors", lambda path: save_file(whole, path, {"step": str(step)}))

    def load(self, folder: Path) -> int:
        """The step to go on from; 0 where nothing was saved. Raises StrokesError for a damaged file or the state of another
        network."""
        path = folder / "state.safetensors"
        if not path.exists():
            return 0
        saved = {key: shape for key, shape in shapes_of(path).items() if key.startswith("model.")}
        wanted = {f"model.{name}": tuple(p.shape) for name, p in self.parameters.items()}
        check_same_shapes(saved, wanted, f"the state {path}")
        with open_safetensors(path) as file:
            for name, parameter in self.parameters.items():
                parameter.data.copy_(file.get_tensor(f"model.{name}"))
                self.average[name].copy_(file.get_tensor(f"average.{name}"))
                if parameter.requires_grad:
                    state = {k: file.get_tensor(f"optimizer.{name}.{k}") for k in ("step", "exp_avg", "exp_avg_sq")}
                    moments = {k: state[k].to(parameter.device) for k in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[parameter] = {**state, **moments}
            return int(file.metadata()["step"])

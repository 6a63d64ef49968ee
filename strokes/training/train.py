"""Training of the embedded model from nothing: autoencoder first, then all tasks in one network.

One sample is one packed sequence: a prompt and a picture painted in one go, or a whole round of the process. Several
noise levels of a target share its prefix, since a target is seen by nothing but itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..bagel.autoencoder import Autoencoder
from ..bagel.config import BagelConfig, LanguageConfig, SpecialTokens, VisionConfig
from ..bagel.model import Bagel
from ..bagel.training import Item, LatentItem, PixelItem, TextItem, pack, training_forward
from ..bagel.vision import patchify
from ..files import write_whole
from ..process.dialect import MINIATURE
from ..process.grammar import write_critique, write_plan
from .scene_graph import PromptMix, sample_scene, write_prompt
from .shapes import UNIT, Shape, render
from .trajectories import Round, RoundMix, sample_round


@dataclass(frozen=True)
class OneShot:
    """A prompt and its finished picture."""

    prompt: str
    scene: list[Shape]


Sample = OneShot | Round


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
class TrainPreset:
    """Length and mix of a run. ``one_shot`` and ``rounds`` are samples a step; the share of one-shot samples falls
    linearly from ``one_shot_first`` to ``one_shot_last`` of the batch."""

    size: NetworkSize = field(default_factory=NetworkSize)
    steps: int = 6000
    batch: int = 48
    one_shot_first: float = 0.85
    one_shot_last: float = 0.4
    noise_levels: int = 3
    # Where a shape goes is decided at t above 0.85, which plain logit-normal times hardly visit.
    shift: float = 3.0
    learning_rate: float = 2e-3
    warmup: int = 200
    decay: float = 0.3
    ema: float = 0.998
    text_weight: float = 0.2
    text_free: float = 0.1
    workers: int = 0
    prompts: PromptMix = field(default_factory=PromptMix)
    rounds: RoundMix = field(default_factory=RoundMix)


def sample_batch(rng: np.random.Generator, preset: TrainPreset, progress: float) -> list[Sample]:
    """Samples of one step; ``progress`` runs from 0 to 1."""
    share = preset.one_shot_first + (preset.one_shot_last - preset.one_shot_first) * progress
    out: list[Sample] = []
    for i in range(preset.batch):
        if i < round(share * preset.batch):
            graph, shapes = sample_scene(rng, preset.prompts)
            out.append(OneShot(write_prompt(graph, long_forms=rng.random() < 0.25), shapes))
        else:
            out.append(sample_round(rng, preset.prompts, preset.rounds))
    return out


def stratified_times(rng: np.random.Generator, levels: int) -> list[float]:
    """Logit-normal times, one from each of ``levels`` equal parts of the distribution."""
    quantiles = torch.tensor((np.arange(levels) + rng.random(levels)) / levels)
    return torch.sigmoid(torch.special.ndtri(quantiles.clamp(1e-4, 1 - 1e-4))).tolist()


class SampleStream(Dataset):
    """The samples of each step, a function of (seed, step) alone, so that workers and resumed runs draw the same."""

    def __init__(self, preset: TrainPreset, seed: int):
        self.preset, self.seed = preset, seed

    def __len__(self) -> int:
        return self.preset.steps

    def __getitem__(self, step: int) -> tuple[int, list[Sample]]:
        rng = np.random.default_rng((self.seed, step))
        return step, sample_batch(rng, self.preset, step / self.preset.steps)


class Batcher:
    """Samples → items of the packed training forward, pictures rendered and encoded on the device at once."""

    def __init__(
        self, preset: TrainPreset, tokenizer, special: SpecialTokens, autoencoder: Autoencoder, device: torch.device
    ):
        self.preset, self.tokenizer, self.special = preset, tokenizer, special
        self.autoencoder, self.device = autoencoder, device

    def __call__(self, samples: list[Sample], rng: np.random.Generator) -> list[list[Item]]:
        scenes = [scene for sample in samples for scene in _scenes(sample)]
        pixels = render(scenes, self.preset.size.canvas, self.device) * 2 - 1
        latents = self.autoencoder.encode(pixels).clone()
        pictures = iter(zip(latents, pixels, strict=True))
        return [self._items(sample, pictures, rng) for sample in samples]

    def _text(self, text: str, loss: bool = False, next_token: int | None = None) -> TextItem:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return TextItem(ids, loss, next_token)

    def _targets(self, latent: Tensor, rng: np.random.Generator) -> list[LatentItem]:
        return [LatentItem(latent, t) for t in stratified_times(rng, self.preset.noise_levels)]

    def _text_free(self, latent: Tensor, rng: np.random.Generator) -> list[LatentItem]:
        """Now and then a target before the last text: what guidance contrasts with."""
        chance = self.preset.text_free * self.preset.noise_levels
        return [LatentItem(latent, stratified_times(rng, 1)[0])] if rng.random() < chance else []

    def _read(self, picture: tuple[Tensor, Tensor], rng: np.random.Generator, next_token: int | None) -> list[Item]:
        """A picture as condition; its latents a little noisy, as the model's own will be."""
        latent, pixels = picture
        return [
            LatentItem(latent + float(rng.uniform(0, 0.15)) * torch.randn_like(latent)),
            PixelItem(pixels, next_token),
        ]

    def _items(self, sample: Sample, pictures: Iterator[tuple[Tensor, Tensor]], rng: np.random.Generator) -> list[Item]:
        special = self.special
        if isinstance(sample, OneShot):
            latent, _ = next(pictures)
            prompt = self._text(sample.prompt, next_token=special.start_of_image)
            return [*self._text_free(latent, rng), prompt, *self._targets(latent, rng)]
        items: list[Item] = [self._text(MINIATURE.opening(sample.prompt))]
        if sample.canvas is not None:
            items += self._read(next(pictures), rng, special.bos)
        if sample.sketch is None:
            return [*items, self._text("", loss=True)]
        sketch = next(pictures)
        seen = sketch if sample.seen is sample.sketch else next(pictures)
        plan = write_plan(sample.instruction, sample.description)
        items += [*self._text_free(sketch[0], rng), self._text(plan, not sample.conflict, special.start_of_image)]
        items += [*self._targets(sketch[0], rng), *self._read(seen, rng, special.bos)]
        critique = write_critique(sample.explanation, sample.correction)
        if sample.refined is None:
            return [*items, self._text(critique, loss=True)]
        refined = sketch if sample.refined is sample.sketch else next(pictures)
        items += [*self._text_free(refined[0], rng), self._text(critique, True, special.start_of_image)]
        return [*items, *self._targets(refined[0], rng)]


def _scenes(sample: Sample) -> Iterator[list[Shape]]:
    """The distinct pictures of a sample, in the order in which its items need them."""
    if isinstance(sample, OneShot):
        yield sample.scene
        return
    if sample.canvas is not None:
        yield sample.canvas
    if sample.sketch is not None:
        yield sample.sketch
        if sample.seen is not None and sample.seen is not sample.sketch:
            yield sample.seen
        if sample.refined is not None and sample.refined is not sample.sketch:
            yield sample.refined


def learning_rate(preset: TrainPreset, step: int) -> float:
    """Factor of the rate: linear warm-up, constant, linear decay to zero over the last ``decay`` of the run."""
    left = (preset.steps - step) / (preset.decay * preset.steps)
    return min(1.0, (step + 1) / preset.warmup, left)


def train(
    preset: TrainPreset,
    tokenizer,
    special: SpecialTokens,
    autoencoder: Autoencoder,
    seed: int,
    device: torch.device,
    report: Callable[[int, dict[str, float]], None],
    resume: Path | None = None,
    save_every: int = 200,
) -> Bagel:
    """Train the network and return it with its averaged weights.

    ``resume`` is a folder that keeps the state of the run every ``save_every`` steps and from which it goes on.
    """
    torch.manual_seed(seed)
    config = preset.size.config(tokenizer.get_vocab_size(), autoencoder.module.config.latent_channels)
    model = Bagel(config, device=device)
    model.initialise(torch.Generator(device).manual_seed(seed))
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(_parameter_groups(model), lr=preset.learning_rate, betas=(0.9, 0.95), eps=1e-12)
    batcher = Batcher(preset, tokenizer, special, autoencoder, device)
    weight = _label_weights(tokenizer, special, device)
    patch = config.latent_patch_size
    start = _load_state(resume, model, average, optimizer) if resume else 0
    began = time.perf_counter()
    stream = DataLoader(
        SampleStream(preset, seed), batch_size=None, sampler=range(start, preset.steps), num_workers=preset.workers
    )
    for step, samples in stream:
        torch.manual_seed(seed * 1_000_003 + step)
        packed = pack(model, batcher(samples, np.random.default_rng((seed, step, 1))), special)
        noise = torch.cat([patchify(torch.randn_like(x)[None], patch)[0] for x in packed.latents])
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses = training_forward(model, packed, noise, preset.shift)
        labels = weight[packed.labels.to(device)]
        text, paint = (losses.ce * labels).sum() / labels.sum(), losses.mse.mean()
        optimizer.zero_grad(set_to_none=True)
        (preset.text_weight * text + paint).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = preset.learning_rate * learning_rate(preset, step)
        optimizer.step()
        decay = min(preset.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.values()), [p.detach() for p in model.parameters()], 1 - decay)
        report(
            step,
            {
                "text": text.item(), "paint": paint.item(), "norm": norm.item(), "rows": packed.rows,
                "seconds": time.perf_counter() - began,
            },
        )  # fmt: skip
        if resume and ((step + 1) % save_every == 0 or step + 1 == preset.steps):
            _save_state(resume, step + 1, model, average, optimizer)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(average[name])
    return model.eval()


def _parameter_groups(model: Bagel) -> list[dict]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim == 2], "weight_decay": 0.01},
        {"params": [p for p in trained if p.ndim != 2], "weight_decay": 0.0},
    ]


def _label_weights(tokenizer, special: SpecialTokens, device: torch.device) -> Tensor:
    """Verdicts and the end are one token each among many easy ones: they count more."""
    weight = torch.ones(tokenizer.get_vocab_size(), device=device)
    for word in ("correct", "wrong", "nothing", "rest"):
        weight[tokenizer.token_to_id(word)] = 3.0
    weight[special.eos] = 2.0
    return weight


def _state_tensors(model: Bagel, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"average.{k}": v for k, v in average.items()}
    names = {id(p): name for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        tensors[f"model.{name}"] = p.detach()
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{names[id(parameter)]}.{key}"] = value
    return tensors


def _save_state(
    folder: Path, step: int, model: Bagel, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.contiguous() for k, v in _state_tensors(model, average, optimizer).items()}
    write_whole(folder / "state.safetensors", lambda path: save_file(tensors, path, {"step": str(step)}))


def _load_state(folder: Path, model: Bagel, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    from safetensors import safe_open

    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        for name, parameter in model.named_parameters():
            parameter.data.copy_(file.get_tensor(f"model.{name}"))
            average[name].copy_(file.get_tensor(f"average.{name}"))
            if parameter.requires_grad:
                keys = ("step", "exp_avg", "exp_avg_sq")
                state = {k: file.get_tensor(f"optimizer.{name}.{k}") for k in keys}
                moments = {k: state[k].to(parameter.device) for k in ("exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {**state, **moments}
        return int(file.metadata()["step"])

"""Samples → packed batches. Texts, layout and masks are made in worker processes without a device; pictures are rendered
and encoded on the device, all of a batch at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..bagel.network.autoencoder import Autoencoder
from ..bagel.network.config import BagelConfig, SpecialTokens
from ..bagel.network.packed import Item, LatentItem, Packed, PixelItem, TextItem, pack
from ..data.samples import Drawing, OneShotSample, RoundSample, Sample, StoredPicture
from ..process.dialects.tags import MINIATURE
from ..process.grammar import write_critique, write_plan
from ..shapes.drawing import Scene, render, table

# What a loss is of; every label and every target is one of them.
LOSSES = ("plan", "critique", "caption", "end", "markers", "one-shot", "sketch", "refine")


@dataclass(frozen=True)
class _Text(TextItem):
    of: str = "markers"


@dataclass(frozen=True)
class _Latents(LatentItem):
    """Latents of the batch's picture number ``picture``, with noise of deviation ``noise`` upon them."""

    picture: int = 0
    noise: float = 0.0
    of: str = ""


@dataclass(frozen=True)
class _Pixels(PixelItem):
    picture: int = 0


@dataclass
class Batch:
    """A packed batch whose pictures are still to be made: ``scenes`` as a table of shapes, then ``stored`` ones (pixels
    uint8 ``[S, 3, H, W]``, latents ``[S, C, h, w]``). The next three say which picture each latent and pixel item shows, the
    last two what each label and each target is, as indexes into :data:`LOSSES`."""

    packed: Packed
    scenes: Tensor
    stored: tuple[Tensor, Tensor] | None
    latent_picture: Tensor
    latent_noise: Tensor
    pixel_picture: Tensor
    label_of: Tensor
    target_of: Tensor

    def painted(self, autoencoder: Autoencoder, canvas: int, device: torch.device) -> Packed:
        """The packed batch with its pictures on ``device``."""
        pixels = render(self.scenes.to(device), canvas) * 2 - 1
        latents = autoencoder.encode(pixels)
        if self.stored is not None:
            own_pixels, own_latents = (part.to(device).float() for part in self.stored)
            pixels = torch.cat((pixels, own_pixels / 127.5 - 1))
            latents = torch.cat((latents, own_latents))
        shown = latents[self.latent_picture.to(device)]
        noise = self.latent_noise.to(device)[:, None, None, None]
        noisy = shown + noise * torch.randn_like(shown)
        return self.packed.with_pictures(noisy, pixels[self.pixel_picture.to(device)])


class Batcher:
    """Makes batches of samples. Several noise levels of a target share its prefix, since a target is seen by nothing but
    itself; now and then (``text_free`` of them) a target stands before the last text: what guidance contrasts with."""

    def __init__(
        self, tokenizer, special: SpecialTokens, config: BagelConfig, canvas: int, noise_levels: int, text_free: float
    ):
        self.tokenizer, self.special, self.config = tokenizer, special, config
        self.noise_levels, self.text_free = noise_levels, text_free
        side = canvas // config.vae_downsample
        self._latent = torch.empty(config.latent_channels, side, side, device="meta")
        self._pixel = torch.empty(3, canvas, canvas, device="meta")

    def __call__(self, samples: Sequence[Sample], rng: np.random.Generator) -> Batch:
        drawings: list[Drawing] = [d for sample in samples for d in _drawings(sample)]
        scenes: list[Scene] = [d for d in drawings if not isinstance(d, StoredPicture)]
        stored = [d for d in drawings if isinstance(d, StoredPicture)]
        drawn, kept = iter(range(len(scenes))), iter(range(len(scenes), len(drawings)))
        numbers = iter([next(kept if isinstance(d, StoredPicture) else drawn) for d in drawings])
        items = list[list[Item]]()
        for sample in samples:
            items.append(self._items(sample, numbers, rng))
            if isinstance(sample, RoundSample) and sample.caption:
                items.append(self._caption(sample.caption, items[-1], rng))
        latents = [item for sample in items for item in sample if isinstance(item, _Latents)]
        return Batch(
            pack(self.config, items, self.special),
            table(scenes),
            _stacked(stored) if stored else None,
            torch.tensor([item.picture for item in latents]),
            torch.tensor([item.noise for item in latents]),
            torch.tensor([i.picture for sample in items for i in sample if isinstance(i, _Pixels)], dtype=torch.long),
            torch.tensor([LOSSES.index(of) for sample in items for item in sample for of in _labels(item)]),
            torch.tensor([LOSSES.index(item.of) for item in latents if item.time is not None]),
        )

    def _text(self, text: str, loss_of: str | None = None, next_token: int | None = None) -> TextItem:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return _Text(ids, loss_of is not None, next_token, loss_of or "markers")

    def _targets(self, picture: int, of: str, rng: np.random.Generator) -> list[Item]:
        return [_Latents(self._latent, t, picture, of=of) for t in stratified_times(rng, self.noise_levels)]

    def _before_text(self, picture: int, of: str, rng: np.random.Generator) -> list[Item]:
        chance = self.text_free * self.noise_levels
        return [_Latents(self._latent, stratified_times(rng, 1)[0], picture, of=of)] if rng.random() < chance else []

    def _read(self, picture: int, rng: np.random.Generator) -> list[Item]:
        """A picture as condition, a text to follow; its latents a little noisy, as a model's own are."""
        noise = float(rng.uniform(0, 0.15))
        return [_Latents(self._latent, None, picture, noise), _Pixels(self._pixel, self.special.bos, picture)]

    def _caption(self, caption: str, known: list[Item], rng: np.random.Generator) -> list[Item]:
        """What the picture of a critique shows, the last that a round reads, behind that picture alone: seeing is learned by
        itself, where nothing can be copied from a plan."""
        seen = [item.picture for item in known if isinstance(item, _Pixels)][-1]
        return [*self._read(seen, rng), self._text(caption, "caption")]

    def _items(self, sample: Sample, pictures: Iterator[int], rng: np.random.Generator) -> list[Item]:
        paint = self.special.start_of_image
        if isinstance(sample, OneShotSample):
            picture = next(pictures)
            prompt = self._text(sample.prompt, next_token=paint)
            return [*self._before_text(picture, "one-shot", rng), prompt, *self._targets(picture, "one-shot", rng)]
        items: list[Item] = [self._text(MINIATURE.opening(sample.prompt))]
        if sample.canvas is not None:
            items += self._read(next(pictures), rng)
        if not sample.instruction:
            return [*items, self._text("", "end")]
        learned = "plan" if sample.learn_plan else None
        plan = self._text(write_plan(sample.instruction, sample.description), learned, paint)
        sketch = next(pictures) if sample.sketch is not None else None
        if sketch is None:
            items.append(plan)
        else:
            items += [*self._before_text(sketch, "sketch", rng), plan, *self._targets(sketch, "sketch", rng)]
        if sample.seen is None:
            return items
        seen = sketch if sample.seen == sample.sketch else next(pictures)
        assert seen is not None
        critique = write_critique(sample.explanation, sample.correction)
        items += self._read(seen, rng)
        if sample.refined is None:
            return [*items, self._text(critique, "critique")]
        refined = sketch if sample.refined == sample.sketch else next(pictures)
        assert refined is not None
        items += [*self._before_text(refined, "refine", rng), self._text(critique, "critique", paint)]
        return [*items, *self._targets(refined, "refine", rng)]


def _labels(item: Item) -> Iterator[str]:
    """What each label that packing makes of an item is of, in its order."""
    if isinstance(item, _Text) and item.loss:
        yield from [item.of] * (len(item.ids) + 1)
    if not isinstance(item, LatentItem) and item.next_token is not None:
        yield "markers"


def stratified_times(rng: np.random.Generator, levels: int) -> list[float]:
    """Logit-normal times, one from each of ``levels`` equal parts of the distribution."""
    quantiles = torch.tensor((np.arange(levels) + rng.random(levels)) / levels)
    return torch.sigmoid(torch.special.ndtri(quantiles.clamp(1e-4, 1 - 1e-4))).tolist()


def _drawings(sample: Sample) -> Iterator[Drawing]:
    """The distinct pictures of a sample, in the order in which its items need them."""
    if isinstance(sample, OneShotSample):
        yield sample.scene
        return
    shown = (sample.canvas, sample.sketch, *(d for d in (sample.seen, sample.refined) if d != sample.sketch))
    yield from (d for d in shown if d is not None)


def _stacked(stored: Sequence[StoredPicture]) -> tuple[Tensor, Tensor]:
    pixels, latents = (np.stack([getattr(s, part) for s in stored]) for part in ("pixels", "latents"))
    return torch.from_numpy(pixels), torch.from_numpy(latents)

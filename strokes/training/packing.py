"""Packed batches from samples.

Token ids, row layout and masks are made in worker processes, without a device; pictures are rendered and encoded on the
device, all of a batch at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..bagel.network.autoencoder import Autoencoder
from ..bagel.network.config import BagelConfig, SpecialTokens
from ..bagel.network.packed import Item, LatentItem, Packed, PixelItem, TextItem, pack
from ..data.samples import Drawing, OneShotSample, RoundSample, Sample, Scene, StoredPicture
from ..process.dialects.protocol import Dialect

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Loss kinds, as indexed by Batch.label_of and Batch.target_of.
LOSSES = ("plan", "critique", "caption", "end", "markers", "one-shot", "sketch", "refine")


@dataclass(frozen=True)
class Renderer:
    """Two functions that turn drawings into pixels; what a drawing is, they alone know.

    ``table(drawings)``: numbers ``[B, ...]``, made in a worker process. ``render(table, side)``: pixels
    ``[B, 3, side, side]`` in 0…1 on the table's device. Both are pickled into worker processes.
    """

    table: Callable[[Sequence[Scene]], Tensor]
    render: Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class SampleFormat:
    """Tokenizer, special tokens, dialect of the texts, renderer of the drawings, and side of the square canvas in pixels.

    ``emphasised`` are words whose labels weigh more (see :func:`.train.label_weights`). Nothing of it lies on a device:
    worker processes get a copy.
    """

    tokenizer: Tokenizer
    special: SpecialTokens
    dialect: Dialect
    renderer: Renderer
    canvas: int
    emphasised: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Text(TextItem):
    loss_kind: str = "markers"


@dataclass(frozen=True)
class _Latents(LatentItem):
    """Latents of the batch's picture number ``picture``, with added Gaussian noise of standard deviation ``noise``."""

    picture: int = 0
    noise: float = 0.0
    loss_kind: str = ""


@dataclass(frozen=True)
class _Pixels(PixelItem):
    picture: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """A packed batch whose pictures are not made yet.

    A picture's number is its place in ``drawings`` followed by ``stored``. Axes: K latent items, Q pixel items, Y labels,
    T targets (latent items with a loss).
    """

    packed: Packed
    drawings: Tensor  # [D, ...] the renderer's table
    stored: tuple[Tensor, Tensor] | None  # pixels uint8 [S, 3, H, W], latents float16 [S, C, h, w]
    latent_picture: Tensor  # [K] picture numbers
    latent_noise: Tensor  # [K] standard deviations
    pixel_picture: Tensor  # [Q] picture numbers
    label_of: Tensor  # [Y] indexes into LOSSES
    target_of: Tensor  # [T] indexes into LOSSES

    def with_pictures(self, sample_format: SampleFormat, autoencoder: Autoencoder, device: torch.device) -> Packed:
        """The packed batch with latents and pixels on ``device``."""
        pixels = sample_format.renderer.render(self.drawings.to(device), sample_format.canvas) * 2 - 1
        latents = autoencoder.encode(pixels)
        if self.stored is not None:
            stored_pixels, stored_latents = (tensor.to(device).float() for tensor in self.stored)
            pixels = torch.cat((pixels, stored_pixels / 127.5 - 1))
            latents = torch.cat((latents, stored_latents))
        shown = latents[self.latent_picture.to(device)]
        noise = self.latent_noise.to(device)[:, None, None, None]
        noisy = shown + noise * torch.randn_like(shown)
        return self.packed.with_pictures(noisy, pixels[self.pixel_picture.to(device)])


class Batcher:
    """Packs samples into a :class:`Batch`.

    Each target is packed at ``noise_levels`` times behind one prefix, since nothing attends to a target but itself. With
    probability ``text_free`` a target also stands before the last text: the text-free branch of guidance.
    """

    def __init__(self, sample_format: SampleFormat, config: BagelConfig, noise_levels: int, text_free: float):
        self.format, self.config = sample_format, config
        self.noise_levels, self.text_free = noise_levels, text_free
        canvas, side = sample_format.canvas, sample_format.canvas // config.vae_downsample
        self._latent = torch.empty(config.latent_channels, side, side, device="meta")
        self._pixel = torch.empty(3, canvas, canvas, device="meta")

    def __call__(self, samples: Sequence[Sample], rng: np.random.Generator) -> Batch:
        pictures: list[Drawing] = [p for sample in samples for p in _pictures(sample)]
        drawings: list[Scene] = [p for p in pictures if not isinstance(p, StoredPicture)]
        stored = [p for p in pictures if isinstance(p, StoredPicture)]
        drawn, kept = iter(range(len(drawings))), iter(range(len(drawings), len(pictures)))
        numbers = iter([next(kept if isinstance(p, StoredPicture) else drawn) for p in pictures])
        packs = list[list[Item]]()
        for sample in samples:
            packs.append(self.items(sample, numbers, rng))
            if isinstance(sample, RoundSample) and sample.caption:
                packs.append(self._caption(sample.caption, packs[-1], rng))
        items = [item for one in packs for item in one]
        latents = [item for item in items if isinstance(item, _Latents)]
        return Batch(
            packed=pack(self.config, packs, self.format.special),
            drawings=self.format.renderer.table(drawings),
            stored=_stacked(stored) if stored else None,
            latent_picture=torch.tensor([item.picture for item in latents]),
            latent_noise=torch.tensor([item.noise for item in latents]),
            pixel_picture=torch.tensor([i.picture for i in items if isinstance(i, _Pixels)], dtype=torch.long),
            label_of=torch.tensor([LOSSES.index(kind) for item in items for kind in _label_kinds(item)]),
            target_of=torch.tensor([LOSSES.index(item.loss_kind) for item in latents if item.time is not None]),
        )

    def items(self, sample: Sample, pictures: Iterator[int], rng: np.random.Generator) -> list[Item]:
        """A sample's items in order; ``pictures`` gives the numbers of its distinct pictures."""
        return (
            self._one_shot(sample, next(pictures), rng)
            if isinstance(sample, OneShotSample)
            else self._round(sample, pictures, rng)
        )

    def _one_shot(self, sample: OneShotSample, picture: int, rng: np.random.Generator) -> list[Item]:
        prompt = self._text(sample.prompt, next_token=self.format.special.start_of_image)
        return [*self._before_text(picture, "one-shot", rng), prompt, *self._targets(picture, "one-shot", rng)]

    def _round(self, sample: RoundSample, pictures: Iterator[int], rng: np.random.Generator) -> list[Item]:
        dialect, paint = self.format.dialect, self.format.special.start_of_image
        items: list[Item] = [self._text(dialect.opening(sample.prompt))]
        if sample.canvas is not None:
            items += self._read(next(pictures), rng)
        if not sample.instruction:
            return [*items, self._text("", "end")]
        learned = "plan" if sample.learn_plan else None
        plan = self._text(dialect.write_plan(sample.instruction, sample.description), learned, paint)
        sketch = next(pictures) if sample.sketch is not None else None
        if sketch is None:
            items.append(plan)
        else:
            items += [*self._before_text(sketch, "sketch", rng), plan, *self._targets(sketch, "sketch", rng)]
        if sample.seen is None:
            return items
        seen = sketch if sample.seen == sample.sketch else next(pictures)
        assert seen is not None
        critique = dialect.write_critique(sample.explanation, sample.correction)
        items += self._read(seen, rng)
        if sample.refined is None:
            return [*items, self._text(critique, "critique")]
        refined = sketch if sample.refined == sample.sketch else next(pictures)
        assert refined is not None
        items += [*self._before_text(refined, "refine", rng), self._text(critique, "critique", paint)]
        return [*items, *self._targets(refined, "refine", rng)]

    def _text(self, text: str, loss_kind: str | None = None, next_token: int | None = None) -> TextItem:
        ids = self.format.tokenizer.encode(text, add_special_tokens=False).ids
        return _Text(ids, loss_kind is not None, next_token, loss_kind or "markers")

    def _targets(self, picture: int, loss_kind: str, rng: np.random.Generator) -> list[Item]:
        times = stratified_times(rng, self.noise_levels)
        return [_Latents(self._latent, time, picture, loss_kind=loss_kind) for time in times]

    def _before_text(self, picture: int, loss_kind: str, rng: np.random.Generator) -> list[Item]:
        if rng.random() >= self.text_free * self.noise_levels:
            return []
        return [_Latents(self._latent, stratified_times(rng, 1)[0], picture, loss_kind=loss_kind)]

    def _read(self, picture: int, rng: np.random.Generator) -> list[Item]:
        """A picture as condition, to be followed by a text. Its latents get a little noise: those that the model paints
        are not clean either."""
        noise = float(rng.uniform(0, 0.15))
        return [_Latents(self._latent, None, picture, noise), _Pixels(self._pixel, self.format.special.bos, picture)]

    def _caption(self, caption: str, known: list[Item], rng: np.random.Generator) -> list[Item]:
        """The picture that a round's critique inspects (the last that its items read) and its caption, as a pack of its
        own: without the round's plan, the caption can only be learned from the picture."""
        inspected = [item.picture for item in known if isinstance(item, _Pixels)][-1]
        return [*self._read(inspected, rng), self._text(caption, "caption")]


def _label_kinds(item: Item) -> Iterator[str]:
    """The loss kind of each label that :func:`pack` makes of an item, in its order."""
    if isinstance(item, _Text) and item.loss:
        yield from [item.loss_kind] * (len(item.ids) + 1)
    if not isinstance(item, LatentItem) and item.next_token is not None:
        yield "markers"


def stratified_times(rng: np.random.Generator, levels: int) -> list[float]:
    """Logit-normal times, one from each of ``levels`` equal parts of the distribution."""
    quantiles = torch.tensor((np.arange(levels) + rng.random(levels)) / levels)
    return torch.sigmoid(torch.special.ndtri(quantiles.clamp(1e-4, 1 - 1e-4))).tolist()


def _pictures(sample: Sample) -> Iterator[Drawing]:
    """The distinct pictures of a sample, in the order in which its items need them."""
    if isinstance(sample, OneShotSample):
        yield sample.scene
        return
    shown = (sample.canvas, sample.sketch, *(p for p in (sample.seen, sample.refined) if p != sample.sketch))
    yield from (p for p in shown if p is not None)


def _stacked(stored: Sequence[StoredPicture]) -> tuple[Tensor, Tensor]:
    pixels, latents = np.stack([s.pixels for s in stored]), np.stack([s.latents for s in stored])
    return torch.from_numpy(pixels), torch.from_numpy(latents)

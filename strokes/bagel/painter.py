"""BAGEL as the process sees it: strings and pictures in, strings and pictures out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import StrokesError
from ..process.pictures import Picture
from ..process.settings import (
    LatentFormat,
    OnStep,
    OnText,
    Painted,
    PaintSettings,
    PictureForm,
    Preserve,
    Profile,
    Scored,
    TextSettings,
    Written,
)
from .engine import flow
from .engine.finite import NotFinite, check_finite
from .engine.prefix import Block, Prefix, Segment
from .engine.prefix_cache import PrefixCache, PrefixCacheCounts
from .engine.runner import Runner
from .engine.sampler import BranchSampler
from .engine.text import OverlappingAnswers, decode, score, token_choice
from .images import resize, to_image, to_tensor
from .network.vision import patchify, unpatchify
from .weights.checkpoint import Checkpoint, first_not_finite

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from ..process.dialects.protocol import Dialect

# Encoded pictures kept: every stage of a round reads the same one.
ENCODED = 8


def _check_utf8(text: str) -> None:
    if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
        raise StrokesError("the text is not valid UTF-8: type it again")


def answer_ids(tokenizer: Tokenizer, answer: str) -> list[int]:
    """Token ids that every text has which begins with ``answer``.

    Qwen2.5's vocabulary has tokens such as ">Add": of a tag, the bracket at its end is written with the word behind it, so
    only the tokens before that are counted, unless the whole tag is one token.
    """
    ids = tokenizer.encode(answer, add_special_tokens=False).ids
    if not answer.endswith(">"):
        return ids
    longer = tokenizer.encode(f"{answer}Add", add_special_tokens=False).ids
    kept = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, longer, strict=False))]
    return kept or ids  # none would be the end of the text


class BagelPainter:
    """The :class:`strokes.process.painter.Painter` of BAGEL. A state is a :class:`.engine.prefix.Prefix`."""

    def __init__(self, checkpoint: Checkpoint, prefix_cache: PrefixCache | None = None, variant: str = ""):
        """``prefix_cache`` may be shared by painters of one network; ``variant`` tells patched weights apart in it."""
        self.checkpoint = checkpoint
        self.prefix_cache = (
            PrefixCache(Runner(checkpoint.model, checkpoint.special)) if prefix_cache is None else prefix_cache
        )
        self.runner, self.variant = self.prefix_cache.runner, variant
        # Scaled latents [C, h, w] by the digest of a picture from outside the model.
        self._encoded: dict[str, Tensor] = {}

    @property
    def profile(self) -> Profile:
        return self.checkpoint.profile

    @property
    def dialect(self) -> Dialect:
        return self.checkpoint.dialect

    @property
    def device(self) -> torch.device:
        return self.runner.device

    @property
    def counts(self) -> PrefixCacheCounts:
        """What this painter's prefix cache, shared or not, has prefilled and found again so far."""
        return self.prefix_cache.counts

    @property
    def latent_format(self) -> LatentFormat:
        autoencoder, codec = self.checkpoint.autoencoder, self.checkpoint.codec
        return LatentFormat(
            name="flux" if autoencoder.is_flux else codec,
            codec=codec,
            channels=self.checkpoint.model.config.latent_channels,
            scale=autoencoder.scale,
            shift=autoencoder.shift,
        )

    # Reading

    def blank(self) -> Prefix:
        return Prefix()

    def read_text(self, state: Prefix, text: str) -> Prefix:
        return state.append(Segment("text", tuple(self._token_ids(text))))

    def read_picture(self, state: Prefix, picture: Picture, form: PictureForm) -> Prefix:
        if form == "latents+pixels":
            state = state.append(Segment("latents", self._latents(picture)))
        if not self.checkpoint.model.has_vision:
            if form == "pixels":
                raise StrokesError(f"{self.profile.name} was trained without vision and cannot look at a picture")
            return state
        return state.append(Segment("pixels", to_tensor(resize(picture.image, self.checkpoint.vit_rule))))

    def check_text(self, text: str) -> None:
        _check_utf8(text)
        encoded = self.checkpoint.tokenizer.encode(text, add_special_tokens=False)
        self._check_vocabulary(text, encoded)
        limit = self.profile.max_text_tokens
        if len(encoded.ids) > limit:
            raise StrokesError(
                f"the text is {len(encoded.ids)} tokens long; {self.profile.name} reads at most {limit} at a time"
            )

    def _check_vocabulary(self, text: str, encoded: Encoding) -> None:
        """Raise StrokesError for a word that a closed vocabulary lacks; an open one has no token for unknown words."""
        tokenizer = self.checkpoint.tokenizer
        unknown = tokenizer.token_to_id("<unk>")
        if unknown is not None and unknown in encoded.ids:
            start, end = encoded.offsets[encoded.ids.index(unknown)]
            words = sorted(w for w in tokenizer.get_vocab() if w.isalpha())
            raise StrokesError(f"{self.profile.name} does not know '{text[start:end]}'; it knows: {' '.join(words)}")

    def _token_ids(self, text: str) -> list[int]:
        return self.checkpoint.tokenizer.encode(text, add_special_tokens=False).ids

    def _latents(self, picture: Picture) -> Tensor:
        """Scaled latents ``[C, h, w]`` of a picture: its own where they are this autoencoder's, else encoded."""
        if picture.latents is not None and picture.codec == self.checkpoint.codec:
            config, (width, height) = self.checkpoint.model.config, picture.image.size
            expected = (config.latent_channels, height // config.vae_downsample, width // config.vae_downsample)
            if picture.latents.shape != expected:
                raise StrokesError(
                    f"a picture's latents have shape {list(picture.latents.shape)}, and {self.profile.name} needs "
                    f"{list(expected)} for {width}×{height}: replace the picture, or restore the trajectory from a backup"
                )
            return torch.from_numpy(picture.latents)
        if picture.digest not in self._encoded:
            while len(self._encoded) >= ENCODED:
                self._encoded.pop(next(iter(self._encoded)))
            latents = self.checkpoint.autoencoder.encode(to_tensor(picture.image)[None])[0].cpu()
            self._check_autoencoder(latents, "the latents of a picture")
            self._encoded[picture.digest] = latents
        return self._encoded[picture.digest]

    # Writing

    def write_text(
        self,
        state: Prefix,
        settings: TextSettings,
        seed: int,
        on_text: OnText | None = None,
        start: str = "",
        stop: Sequence[str] = (),
    ) -> Written:
        forced = self._token_ids(start)
        before = len(self._decoded(forced))

        def stopped_at(text: str) -> int | None:
            """Where a text with its forced start ends because of a stop string."""
            said = before + len(text[before:]) - len(text[before:].lstrip())
            found = [at for string in stop if (at := text.find(string, said)) >= 0]
            return min(found, default=None)

        def report(ids: list[int]) -> bool:
            text = self._decoded(ids)
            if on_text is not None:
                on_text(text.strip(), len(ids))
            return bool(stop) and stopped_at(text) is not None

        with self._naming_the_cause():
            ids, ended = decode(
                self.runner,
                self._blocks(state),
                state.position,
                settings.max_tokens,
                forced=forced,
                choose=token_choice(settings.temperature, settings.top_p, seed),
                on_token=report,
            )
        self.prefix_cache.counts.decoded += len(ids) + ended  # the start marker, and every token but the last choice
        text = self._decoded(ids)
        end = stopped_at(text)
        return Written(text[:end].strip(), len(ids) - len(forced), ended or end is not None, end is not None)

    def score(self, state: Prefix, answers: Sequence[str], start: str = "") -> Scored:
        ids = [tuple(self._known_ids(answer)) for answer in answers]
        distinct = list(dict.fromkeys(ids))
        try:
            with self._naming_the_cause():
                logs, rows = score(self.runner, self._blocks(state), state.position, self._token_ids(start), distinct)
        except OverlappingAnswers:
            raise StrokesError(f"of the answers {', '.join(map(repr, answers))} one begins with another") from None
        found = dict(zip(distinct, logs, strict=True))
        self.prefix_cache.counts.scored += rows
        return Scored(tuple(found.pop(each, -math.inf) for each in ids), rows)

    def _known_ids(self, answer: str) -> list[int]:
        """Token ids of an answer. Raises StrokesError for a word that a closed vocabulary lacks."""
        encoded = self.checkpoint.tokenizer.encode(answer, add_special_tokens=False)
        self._check_vocabulary(answer, encoded)
        return answer_ids(self.checkpoint.tokenizer, answer)

    @contextmanager
    def _naming_the_cause(self) -> Iterator[None]:
        """Add to a :class:`.engine.finite.NotFinite` error where it began."""
        try:
            yield
        except NotFinite as error:
            tensor = first_not_finite(self.checkpoint.model)
            cause = (
                f"it began in the weights: '{tensor}' is damaged; download the file again"
                if tensor
                else "all weights are finite: choose another precision, such as bfloat16, or remove a LoRA"
            )
            raise NotFinite(f"{self.profile.name}: {error}; {cause}") from None

    def _blocks(self, state: Prefix) -> list[Block]:
        return self.prefix_cache.blocks(state, self.variant)

    def _decoded(self, ids: Sequence[int]) -> str:
        return self.checkpoint.tokenizer.decode(list(ids), skip_special_tokens=True)

    # Painting

    def paint_picture(
        self,
        state: Prefix,
        text_free: Prefix,
        image_free: Prefix,
        size: tuple[int, int],
        settings: PaintSettings,
        seed: int,
        on_step: OnStep | None = None,
        preserve: Preserve | None = None,
    ) -> Painted:
        config = self.checkpoint.model.config
        grid = (size[1] // config.token_pixels, size[0] // config.token_pixels)
        # Drawn on the CPU, so that a seed means the same on every device.
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(grid[0] * grid[1], config.token_dim, generator=generator).to(self.device)
        prefixes = {"main": state, "text_free": text_free, "image_free": image_free}
        sampler = BranchSampler(self.runner, self._blocks, prefixes, grid, settings.extrapolate)

        def report(done: int, total: int, x: Tensor, v: Tensor, t: float) -> None:
            if on_step is not None:
                on_step(done, total, lambda: self.preview(self._to_latents(x - t * v, grid)))

        guidance = flow.Guidance(
            text=settings.text_guidance,
            image=settings.image_guidance,
            interval=settings.interval,
            renorm=settings.renorm,
            renorm_min=settings.renorm_min,
        )
        with self._naming_the_cause():
            tokens = flow.sample(
                sampler,
                noise,
                flow.FlowSettings(settings.steps, settings.shift, guidance),
                same_text=text_free.key == state.key,
                same_image=image_free.key == state.key,
                on_step=report,
                preserved=None if preserve is None else self._preserved(preserve, noise),
            )
        return Painted(self._picture_of(self._to_latents(tokens, grid)), sampler.calls)

    def _preserved(self, preserve: Preserve, noise: Tensor) -> flow.Preserved:
        """Clean tokens of the picture and where they stay, on the device of ``noise``."""
        patch = self.checkpoint.model.config.latent_patch_size
        clean = patchify(self._latents(preserve.picture)[None], patch)[0]
        return flow.Preserved(clean.to(noise), torch.from_numpy(~preserve.repaint).flatten().to(noise.device))

    def _to_latents(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Latent tokens ``[N, token_dim]`` of a (rows, columns) ``grid`` as latents ``[C, h, w]``."""
        return unpatchify(tokens[None], grid, self.checkpoint.model.config.latent_patch_size)[0]

    # Pictures

    def preview(self, latents: Tensor) -> Image.Image:
        """What scaled latents ``[C, h, w]`` look like, good enough for a glance."""
        return self._picture_of(latents).image

    def decode(self, latents: np.ndarray) -> Picture:
        return self._picture_of(torch.from_numpy(latents))

    def encode(self, picture: Picture) -> Picture:
        return Picture(picture.image, self._latents(picture).float().numpy(), self.checkpoint.codec)

    def _picture_of(self, latents: Tensor) -> Picture:
        """The picture of scaled latents ``[C, h, w]``, which it keeps."""
        pixels = self.checkpoint.autoencoder.decode(latents[None])[0]
        self._check_autoencoder(pixels, "the pixels of a picture")
        image = to_image(pixels)
        return Picture(image, latents.float().cpu().numpy().astype(np.float32), self.checkpoint.codec)

    def _check_autoencoder(self, values: Tensor, what: str) -> None:
        """Raise :class:`.engine.finite.NotFinite` where what the autoencoder made is not finite."""
        try:
            check_finite(values, what)
        except NotFinite as error:
            tensor = first_not_finite(self.checkpoint.autoencoder.module)
            cause = f"'{tensor}' of the autoencoder is damaged" if tensor else "its autoencoder made them"
            raise NotFinite(f"{self.profile.name}: {error}; {cause}: download ae.safetensors again") from None

"""BAGEL as the process sees it: strings and pictures in, strings and pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import StrokesError
from ..process.painter import (
    LatentFormat,
    OnStep,
    OnText,
    Painted,
    PaintSettings,
    PictureForm,
    Preserve,
    Profile,
    TextSettings,
    Written,
)
from ..process.pictures import Picture
from .engine import flow
from .engine.prefix import Block, Prefix, Segment
from .engine.prefix_cache import PrefixCache, PrefixCacheCounts
from .engine.runner import Runner
from .engine.sampler import BranchSampler
from .engine.text import decode, token_choice
from .images import resize, to_image, to_tensor
from .network.vision import patchify, unpatchify
from .weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from tokenizers import Encoding

# Encoded pictures kept: every stage of a round reads the same one.
ENCODED = 8


def _check_utf8(text: str) -> None:
    if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
        raise StrokesError("the text is not valid UTF-8: type it again")


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
            self._encoded[picture.digest] = self.checkpoint.autoencoder.encode(to_tensor(picture.image)[None])[0].cpu()
        return self._encoded[picture.digest]

    # Writing

    def write_text(
        self, state: Prefix, settings: TextSettings, seed: int, on_text: OnText | None = None, start: str = ""
    ) -> Written:
        forced = self._token_ids(start)

        def report(ids: list[int]) -> None:
            if on_text is not None:
                on_text(self._text_of(ids), len(ids))

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
        return Written(self._text_of(ids), len(ids) - len(forced), ended)

    def _blocks(self, state: Prefix) -> list[Block]:
        return self.prefix_cache.blocks(state, self.variant)

    def _text_of(self, ids: Sequence[int]) -> str:
        return self.checkpoint.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

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
        image = to_image(self.checkpoint.autoencoder.decode(latents[None])[0])
        return Picture(image, latents.float().cpu().numpy().astype(np.float32), self.checkpoint.codec)

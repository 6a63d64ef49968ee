"""A scripted painter: states are tuples of what was read, pictures are solid colours made of seed and state."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from PIL import Image

from strokes.errors import StrokesError
from strokes.process.painter import (
    LatentFormat,
    OnStep,
    OnText,
    Painted,
    Painter,
    PaintSettings,
    PictureForm,
    Preserve,
    Profile,
    TextSettings,
    Written,
)
from strokes.process.pictures import Picture

PLAN = "<ins>Add a {}.</ins><des>A scene with a {}.</des>"
ROUND = [PLAN.format("cat", "cat"), "The intermediate step is correct.", "go on"]
CORRECTED = [PLAN.format("dog", "dog"), "The dog is red. <refine>Paint the dog blue.</refine>", "go on"]


State = tuple[str, ...]


class ScriptedPainter:
    latent_format = LatentFormat(name="fake", codec="fake", channels=2, scale=1.0, shift=0.0)

    def __init__(self, replies: Sequence[str] = (), dialect: str = "paper"):
        self.profile = Profile(name="fake", dialect=dialect, size=(64, 48), max_side=128)
        self.replies = list(replies)
        self.preserved: list[Preserve | None] = []
        self.texts: list[tuple[Any, ...]] = []  # (state, settings, seed, start) of every text written
        self.paints: list[
            tuple[Any, ...]
        ] = []  # (state, text_free, image_free, settings, seed) of every picture painted

    def blank(self) -> State:
        return ()

    def read_text(self, state: State, text: str) -> State:
        self.check_text(text)
        return (*state, text)

    def read_picture(self, state: State, picture: Picture, form: PictureForm) -> State:
        return (*state, f"{'picture' if form == 'latents+pixels' else 'pixels of picture'} {picture.digest}")

    def write_text(
        self, state: State, settings: TextSettings, seed: int, on_text: OnText | None = None, start: str = ""
    ) -> Written:
        self.texts.append((state, settings, seed, start))
        text = start + self.replies.pop(0)
        if on_text:
            on_text(text, 1)
        return Written(text, len(text.split()), True)

    def paint_picture(
        self,
        state: State,
        text_free: State,
        image_free: State,
        size: tuple[int, int],
        settings: PaintSettings,
        seed: int,
        on_step: OnStep | None = None,
        preserve: Preserve | None = None,
    ) -> Painted:
        self.paints.append((state, text_free, image_free, settings, seed))
        self.preserved.append(preserve)
        if on_step:
            on_step(1, 1, lambda: Image.new("RGB", size))
        digest = sha256(repr((state, text_free, image_free, size, settings, seed)).encode()).digest()
        latents = np.frombuffer(digest, np.uint8).astype(np.float32)[:24].reshape(2, 3, 4)
        return Painted(
            Picture(Image.new("RGB", size, (digest[0], digest[1], digest[2])), latents, "fake"), settings.steps
        )

    def encode(self, picture: Picture) -> Picture:
        return Picture(picture.image, np.zeros((2, 3, 4), np.float32), "fake")

    def decode(self, latents: np.ndarray) -> Picture:
        return Picture(Image.new("RGB", self.profile.size), latents, "fake")

    def check_text(self, text: str) -> None:
        if "<|" in text:
            raise StrokesError("the text contains the special token <|: remove it")


# Type-checked against the protocol (tests/test_code.py): a double that drifts from it fails there.
PAINTER: type[Painter] = ScriptedPainter


def content(trajectory: object) -> Any:
    """A trajectory as plain values, pictures by their digest, so that two can be compared."""

    def plain(value: Any) -> Any:
        if isinstance(value, Picture):
            return value.digest
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return {k: plain(v) for k, v in vars(value).items() if k != "digest"} if hasattr(value, "__dict__") else value

    return plain(trajectory)


def same(one: object, other: object) -> bool:
    return content(one) == content(other)

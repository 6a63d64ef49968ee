"""A scripted painter: states are tuples of what was read, pictures are solid colours made of seed and state."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from PIL import Image

from strokes.errors import StrokesError
from strokes.process.painter import Painted, PaintSettings, Profile, TextSettings, Written
from strokes.process.pictures import Picture

PLAN = "<ins>Add a {}.</ins><des>A scene with a {}.</des>"
ROUND = [PLAN.format("cat", "cat"), "The intermediate step is correct.", "go on"]
CORRECTED = [PLAN.format("dog", "dog"), "The dog is red. <refine>Paint the dog blue.</refine>", "go on"]


class ScriptedPainter:
    def __init__(self, replies=(), dialect="paper"):
        self.profile = Profile(name="fake", dialect=dialect, size=(64, 48), max_side=128)
        self.replies = list(replies)
        self.preserved: list = []
        self.texts: list[tuple] = []  # (state, settings, seed, start) of every text written
        self.paints: list[tuple] = []  # (state, text_free, image_free, settings, seed) of every picture painted

    def blank(self):
        return ()

    def read_text(self, state, text):
        self.check_text(text)
        return (*state, text)

    def read_picture(self, state, picture, form):
        return (*state, f"{'picture' if form == 'latents+pixels' else 'pixels of picture'} {picture.digest}")

    def write_text(self, state, settings: TextSettings, seed, on_text=None, start=""):
        self.texts.append((state, settings, seed, start))
        text = start + self.replies.pop(0)
        if on_text:
            on_text(text, 1)
        return Written(text, len(text.split()), True)

    def paint_picture(
        self, state, text_free, image_free, size, settings: PaintSettings, seed, on_step=None, preserve=None
    ):
        self.paints.append((state, text_free, image_free, settings, seed))
        self.preserved.append(preserve)
        if on_step:
            on_step(1, 1, lambda: Image.new("RGB", size))
        digest = sha256(repr((state, text_free, image_free, size, settings, seed)).encode()).digest()
        latents = np.frombuffer(digest, np.uint8).astype(np.float32)[:24].reshape(2, 3, 4)
        return Painted(Picture(Image.new("RGB", size, tuple(digest[:3])), latents, "fake"), settings.steps)

    def check_text(self, text):
        if "<|" in text:
            raise StrokesError("the text contains the special token <|: remove it")


def content(trajectory):
    """A trajectory as plain values, pictures by their digest, so that two can be compared."""

    def plain(value):
        if isinstance(value, Picture):
            return value.digest
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return {k: plain(v) for k, v in vars(value).items() if k != "digest"} if hasattr(value, "__dict__") else value

    return plain(trajectory)


def same(one: object, other: object) -> bool:
    return content(one) == content(other)

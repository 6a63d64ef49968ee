"""A scripted painter: states are tuples of what was read, pictures are solid colours made of seed and state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from PIL import Image

from strokes.errors import StrokesError
from strokes.process.dialects.choice import READY
from strokes.process.dialects.protocol import Dialect
from strokes.process.painter import Painter
from strokes.process.pictures import Picture
from strokes.process.settings import (
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

PLAN = "<ins>Add a {}.</ins><des>A scene with a {}.</des>"
# A reply is the whole text that the model would write: a round is a plan, a critique, and what begins after the picture.
ROUND = [PLAN.format("cat", "cat"), "the step is correct. as far as it goes.", "<ins>"]
CORRECTED = [PLAN.format("dog", "dog"), "the picture is wrong. <refine>Paint the dog blue.</refine>", "<ins>"]
# Probability of what a script says, and of anything else together.
SURE = 0.9


State = tuple[str, ...]


class ScriptedPainter:
    """``replies`` are the whole texts that the model would write, one for each question. What is asked again with a
    forced start goes on with the same reply. A reply of more than ``max_tokens`` words is cut off there."""

    latent_format = LatentFormat(name="fake", codec="fake", channels=2, scale=1.0, shift=0.0)

    def __init__(self, replies: Sequence[str] = (), dialect: str | Dialect = "paper"):
        self.profile = Profile(name="fake", size=(64, 48), max_side=128)
        self.dialect = READY[dialect] if isinstance(dialect, str) else dialect
        self.replies = list(replies)
        self.preserved: list[Preserve | None] = []
        self.texts: list[tuple[Any, ...]] = []  # (state, settings, seed, start) of every text written
        self.scores: list[tuple[State, tuple[str, ...], str]] = []  # (state, answers, start) of every scoring
        self.paints: list[
            tuple[Any, ...]
        ] = []  # (state, text_free, image_free, settings, seed) of every picture painted
        self._asked: State | None = None
        self._reply = ""

    def blank(self) -> State:
        return ()

    def read_text(self, state: State, text: str) -> State:
        self.check_text(text)
        return (*state, text)

    def read_picture(self, state: State, picture: Picture, form: PictureForm) -> State:
        return (*state, f"{'picture' if form == 'latents+pixels' else 'pixels of picture'} {picture.digest}")

    def _rest(self, state: State, start: str) -> str:
        """What the model would write behind ``start``: of the next reply, or of the present one where it goes on."""
        if not start or state != self._asked:
            self._asked, self._reply = state, self.next_reply(state)
        said = start.strip()
        return self._reply[len(said) :] if self._reply.startswith(said) else self._reply

    def next_reply(self, state: State) -> str:
        return self.replies.pop(0)

    def write_text(
        self,
        state: State,
        settings: TextSettings,
        seed: int,
        on_text: OnText | None = None,
        start: str = "",
        stop: Sequence[str] = (),
    ) -> Written:
        self.texts.append((state, settings, seed, start))
        rest = self._rest(state, start)
        words = rest.split()
        ended = len(words) <= settings.max_tokens
        rest = rest if ended else " ".join(words[: settings.max_tokens])
        blanks = len(rest) - len(rest.lstrip())
        end = min((at for s in stop if (at := rest.find(s, blanks)) >= 0), default=None)
        text = (start + rest[:end]).strip()
        if on_text:
            on_text(text, 1)
        return Written(text, len(rest[:end].split()), ended or end is not None, end is not None)

    def score(self, state: State, answers: Sequence[str], start: str = "") -> Scored:
        self.scores.append((state, tuple(answers), start))
        rest = self._rest(state, start).strip()
        said = [rest.startswith(a.strip()) if a else not rest for a in answers]
        likely, others = sum(said), len(said) - sum(said)
        logs = (math.log(SURE / likely) if hit else math.log((1 - SURE) / 1e6 / others) for hit in said)
        return Scored(tuple(logs), 1 + len(start.split()))

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

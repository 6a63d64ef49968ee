"""The painter protocol: a unified model that reads text and pictures, writes text and paints.

Nothing in this folder knows tensors, tokens or files of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .dialects.protocol import Dialect
from .pictures import Picture
from .settings import (
    LatentFormat,
    OnStep,
    OnText,
    Painted,
    PaintSettings,
    PictureForm,
    Preserve,
    Profile,
    Scored,
    State,
    TextSettings,
    Written,
)


class Painter(Protocol):
    """A unified model as the process sees it. States are values: appending returns a new one.

    The guidance settings and the text-free and image-free states of :meth:`paint_picture` are those of classifier-free
    guidance with three branches; a painter may ignore those that it has no use for.
    """

    @property
    def profile(self) -> Profile: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def latent_format(self) -> LatentFormat: ...

    def blank(self) -> State:
        """The state before anything was read."""
        ...

    def read_text(self, state: State, text: str) -> State:
        """Append one text segment; :meth:`check_text` tells beforehand whether it can be said to this model."""
        ...

    def read_picture(self, state: State, picture: Picture, form: PictureForm) -> State:
        """Append a picture in a form, which the dialect says. Raises StrokesError for pixels alone where the model has no
        vision; of both, it then reads the latents."""
        ...

    def write_text(
        self,
        state: State,
        settings: TextSettings,
        seed: int,
        on_text: OnText | None = None,
        start: str = "",
        stop: Sequence[str] = (),
    ) -> Written:
        """Let the model write the next text; the state itself is not extended.

        ``start`` is text the reply is forced to begin with; it is included in ``Written.text``. The text ends before the
        first of the strings ``stop`` that the model writes; blanks at the beginning of what it writes do not count.
        """
        ...

    def score(self, state: State, answers: Sequence[str], start: str = "") -> Scored:
        """The log-probability of each of ``answers`` as what the model writes next, behind the forced ``start``; "" is the
        end of the text.

        Of answers that this model writes with the same tokens the first has the probability. Raises StrokesError where
        the tokens of one answer begin with those of another, and where the model has no token for a word.
        """
        ...

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
        """Sample a picture of ``size`` (width, height), guided away from ``text_free`` and ``image_free``."""
        ...

    def encode(self, picture: Picture) -> Picture:
        """The same picture with this painter's latents."""
        ...

    def decode(self, latents: np.ndarray) -> Picture:
        """The picture of scaled latents, float32 ``[C, h, w]`` in this painter's :attr:`latent_format`."""
        ...

    def check_text(self, text: str) -> None:
        """Raise StrokesError for a person's text with words this model cannot know, or too long for it."""
        ...

"""Training samples: one-shot pictures and rounds of the process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..shapes.drawing import Scene


@dataclass(frozen=True, eq=False)
class StoredPicture:
    """A picture that a model painted: ``pixels`` uint8 ``[3, H, W]`` and its scaled latents ``[C, h, w]`` in float16."""

    pixels: np.ndarray
    latents: np.ndarray


Drawing = Scene | StoredPicture


@dataclass(frozen=True)
class OneShotSample:
    """A prompt and its finished picture."""

    prompt: str
    scene: Scene
    kind: str = "one-shot"


@dataclass(frozen=True)
class RoundSample:
    """One round, as the model sees it and as it should act.

    ``instruction`` "" is the end of the process. ``sketch`` and ``refined`` are what should be painted (None: nothing to
    learn there, or nothing to refine), ``seen`` is what the critique looks at (None: there is none) and ``caption`` what that
    shows, in words ("" where training may not name it). ``learn_plan`` is False for a plan that contradicts the prompt: it
    is read, and never learned. ``kind`` names what the critique is of.
    """

    prompt: str
    canvas: Drawing | None
    instruction: str = ""
    description: str = ""
    learn_plan: bool = True
    sketch: Drawing | None = None
    seen: Drawing | None = None
    caption: str = ""
    explanation: str = ""
    correction: str = ""
    refined: Drawing | None = None
    kind: str = "end"

    @property
    def step(self) -> str:
        """The instruction's verb: add, change, move, swap, remove or paint; "end" at the end."""
        return self.instruction.split(" ", 1)[0] or "end"


Sample = OneShotSample | RoundSample

"""Training samples: one-shot pictures and rounds of the process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..shapes.drawing import Scene


@dataclass(frozen=True, eq=False)
class StoredPicture:
    """A picture that a model painted: ``pixels`` uint8 ``[3, H, W]`` and scaled ``latents`` float16 ``[C, h, w]``."""

    pixels: np.ndarray
    latents: np.ndarray


# A scene is rendered where it is trained on; a stored picture is taken as it is.
Drawing = Scene | StoredPicture


@dataclass(frozen=True)
class OneShotSample:
    """A prompt and its finished picture."""

    prompt: str
    scene: Scene
    kind: str = "one-shot"


@dataclass(frozen=True, kw_only=True)
class RoundSample:
    """One round of the process: the state the model reads, and the plan, critique and pictures it should give.

    prompt: the user's prompt.
    canvas: the picture before the round; None for an empty canvas.
    instruction, description: the plan; instruction "" is the end of the process.
    learn_plan: False for a plan that contradicts the prompt: the model reads it, and no loss is taken on it.
    sketch: target of Sketch; None where none is learned.
    seen: the picture that the critique inspects; None where there is no critique.
    caption: what ``seen`` shows, in words; "" where training may not name it.
    explanation, correction: the critique.
    refined: target of Refine; None where nothing is refined.
    kind: the critique's finding ("right", "wrong picture" …), "plan" without a critique, "end" at the end.
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
    def verb(self) -> str:
        """The instruction's verb: add, change, move, swap, remove or paint; "end" at the end."""
        return self.instruction.split(" ", 1)[0] or "end"


Sample = OneShotSample | RoundSample

"""What a node shows while it works, and where it stops when the user interrupts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import comfy.model_management
from comfy_api.latest import ComfyAPISync, io, ui
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer

from ..strokes.errors import StrokesError
from ..strokes.process.grammar import readable
from ..strokes.process.trajectory import Trajectory
from .values import image_to

# Seconds between messages: each carries the state of every node that has started.
INTERVAL = 0.5


class Live:
    """Progress, previews and text of the node that is running now.

    ``stage`` is "plan" or "inspect" where the text has tags. An interrupt is looked for here, between tokens and steps;
    ComfyUI's layers look for it at every call.
    """

    def __init__(self, stage: str = ""):
        self.stage = stage
        self._api = ComfyAPISync()
        self._last = monotonic()

    def on_text(self, text: str, tokens: int) -> None:
        """For :data:`.painter.OnText`."""
        if self._due():
            self.show_text(readable(self.stage, text) if self.stage else text)

    def on_step(self, done: int, total: int, preview: Callable[[], Image.Image]) -> None:
        """For :data:`.painter.OnStep`."""
        if self._due() and done < total:
            self._api.execution.set_progress(done, total, preview_image=_large(preview()))

    def show_text(self, text: str) -> None:
        server, context = PromptServer.instance, get_executing_context()
        if server.client_id is not None and context is not None and text:
            node = get_progress_state().dynprompt.get_display_node_id(context.node_id)
            server.send_progress_text(text, node, server.client_id)

    def show_picture(self, image: Image.Image) -> None:
        """The last preview hides every other picture on the node, so it is the finished one."""
        self._api.execution.set_progress(1, 1, preview_image=_large(image), ignore_size_limit=True)

    def _due(self) -> bool:
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = monotonic()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        return True


def _large(image: Image.Image) -> Image.Image:
    """Nodes show a preview at its own size, and the small model's pictures would be stamps."""
    factor = 256 // max(image.size)
    return (
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST) if factor > 1 else image
    )


@contextmanager
def reporting(stage: str, trajectory: Trajectory | None = None) -> Iterator[None]:
    """Errors begin with the stage and the round: ComfyUI shows those of a loop's inside on the loop."""
    try:
        yield
    except StrokesError as error:
        where = f"{stage}, round {trajectory.round_index + 1}" if trajectory else stage
        raise StrokesError(f"{where}: {error}") from error


def payload(node: type[io.ComfyNode], trajectory: Trajectory, text: str = "", image: Image.Image | None = None) -> dict:
    """A stage's result for viewers and the history. It carries its round, because a loop's come in any order."""
    found: dict[str, Any] = {"strokes_round": [len(trajectory.rounds)]}
    if text:
        found["text"] = [text]
    if image is not None:
        found |= ui.PreviewImage(image_to(image), cls=node).as_dict()
    return found

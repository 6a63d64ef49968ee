"""Progress, previews, text and error messages of a running node, and its stop when the user interrupts."""

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
from ..strokes.process.dialects.protocol import Asked, Dialect
from ..strokes.process.trajectory import Trajectory
from .values import image_to

# Seconds between two messages at least: ComfyUI sends the state of every node that has started in each of them.
INTERVAL = 0.5


class Live:
    """Callbacks that show what the running node writes and paints, and raise ComfyUI's interrupt between tokens and steps.

    ``dialect`` makes the text of a stage readable; None shows it as it is.
    """

    def __init__(self, dialect: Dialect | None = None, asked: Asked = "plan"):
        self.dialect, self.asked = dialect, asked
        self._api = ComfyAPISync()
        self._last = monotonic()

    def on_text(self, text: str, tokens: int) -> None:
        """Callback :data:`strokes.process.settings.OnText`: show the text so far."""
        if self._due():
            self.show_text(self.dialect.readable(self.asked, text) if self.dialect else text)

    def on_step(self, done: int, total: int, preview: Callable[[], Image.Image]) -> None:
        """Callback :data:`strokes.process.settings.OnStep`: show the progress and a preview.

        The last step is left to :meth:`show_picture`.
        """
        if self._due() and done < total:
            self._api.execution.set_progress(done, total, preview_image=_large(preview()))

    def show_text(self, text: str) -> None:
        """Text on the node; a copy in a loop shows it on the node it was copied from."""
        server, context = PromptServer.instance, get_executing_context()
        if server.client_id is not None and context is not None and text:
            node = get_progress_state().dynprompt.get_display_node_id(context.node_id)
            # Nodes 2.0 takes the text for Markdown, where a line break needs two spaces before it.
            server.send_progress_text(text.replace("\n", "  \n"), node, server.client_id)

    def show_picture(self, image: Image.Image) -> None:
        """A finished picture as the last preview, which hides every other picture on the node."""
        self._api.execution.set_progress(1, 1, preview_image=_large(image), ignore_size_limit=True)

    def _due(self) -> bool:
        """Whether it is time for another message. Raises ComfyUI's interrupt."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = monotonic()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        return True


def _large(image: Image.Image) -> Image.Image:
    """A small picture enlarged by a whole factor, to 256 pixels at most: nodes show previews at their own size."""
    factor = 256 // max(image.size)
    return (
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST) if factor > 1 else image
    )


@contextmanager
def reporting(stage: str, trajectory: Trajectory | None = None) -> Iterator[None]:
    """Put the stage and the round before the message of a StrokesError: ComfyUI shows a loop's errors on the loop itself."""
    try:
        yield
    except StrokesError as error:
        where = f"{stage}, round {trajectory.round_index + 1}" if trajectory else stage
        raise StrokesError(f"{where}: {error}") from error


def payload(
    node: type[io.ComfyNode], trajectory: Trajectory, text: str = "", image: Image.Image | None = None
) -> dict[str, Any]:
    """The ``ui`` output of a stage: its round (from 1), text and picture. A loop's rounds arrive in any order."""
    found: dict[str, Any] = {"strokes_round": [len(trajectory.rounds)]}
    if text:
        found["text"] = [text]
    if image is not None:
        found |= ui.PreviewImage(image_to(image), cls=node).as_dict()
    return found

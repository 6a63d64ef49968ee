"""ComfyUI-Strokes: Plan, Sketch, Inspect and Refine as ComfyUI nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import StrokesExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> StrokesExtension:
    # Imported here, so that pytest can import this file without ComfyUI.
    from .nodes import StrokesExtension

    return StrokesExtension()

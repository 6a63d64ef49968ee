"""ComfyUI nodes. A node reads its sockets, calls ``strokes`` and returns ComfyUI's types; it computes nothing itself."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..model_loader import folders
from .load import StrokesApplyLora, StrokesLoadModel
from .loop import StrokesLoop, StrokesLoopEnd, StrokesLoopStart
from .oneshot import StrokesAsk, StrokesEditImage, StrokesTextToImage
from .stages import StrokesBegin, StrokesInspect, StrokesPlan, StrokesRefine, StrokesSketch
from .trajectory import (
    StrokesContactSheet,
    StrokesGetTurn,
    StrokesLoadTrajectory,
    StrokesReplaceImage,
    StrokesSaveTrajectory,
)

NODES: list[type[io.ComfyNode]] = [
    StrokesLoadModel,
    StrokesApplyLora,
    StrokesBegin,
    StrokesPlan,
    StrokesSketch,
    StrokesInspect,
    StrokesRefine,
    StrokesLoop,
    StrokesLoopStart,
    StrokesLoopEnd,
    StrokesReplaceImage,
    StrokesGetTurn,
    StrokesSaveTrajectory,
    StrokesLoadTrajectory,
    StrokesContactSheet,
    StrokesTextToImage,
    StrokesEditImage,
    StrokesAsk,
]


class StrokesExtension(ComfyExtension):
    """What ComfyUI loads from this pack."""

    async def on_load(self) -> None:
        folders.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES

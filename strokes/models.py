"""Opening a model folder as a painter, for the command line, recipes and programs; ComfyUI's way is ``model_loader/``.

A second network moves in beside ``bagel/`` and gets its branch here. Networks are imported when one is opened, so that
naming a model costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StrokesError

if TYPE_CHECKING:
    import torch

    from .bagel.painter import BagelPainter

# The small model that ships along.
EMBEDDED = Path(__file__).parent / "embedded"


def open_painter(
    path: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, dialect: str = "auto"
) -> BagelPainter:
    """The painter of a model folder, or of a weights file with its companions beside it.

    ``dtype`` None: float32 for a small model, else what the file stores. ``dialect`` is the name of one (see
    :mod:`.process.dialects.choice`), or "auto". Raises StrokesError naming the file or tensor that is missing, truncated or
    misshapen, and where the model does not fit the device's memory.
    """
    import torch

    from .bagel.painter import BagelPainter
    from .bagel.weights.checkpoint import load

    try:
        return BagelPainter(load(path, device, dtype, dialect=dialect))
    except torch.OutOfMemoryError:
        raise StrokesError(f"{path} does not fit the GPU's memory: free some, or hide the GPU") from None


def summarise(path: Path | str) -> dict[str, Any]:
    """What a model folder or weights file is, as values of JSON, from headers alone; :mod:`.bagel.weights.summary` lists it.

    Raises StrokesError where :func:`open_painter` would for reasons other than a companion that is missing.
    """
    from .bagel.weights.recognise import recognise
    from .bagel.weights.summary import summary

    return summary(recognise(path))

"""Files are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from .errors import StrokesError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place; on any failure nothing is left.

    Raises :class:`StrokesError` that names ``path`` where it cannot be written: a full disk, no permission.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise StrokesError(
            f"cannot write {path} ({reason or error}): make room there, or choose another place"
        ) from error
    finally:  # also after Ctrl-C in the middle of a write; once in place, there is none
        temporary.unlink(missing_ok=True)

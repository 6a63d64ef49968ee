"""Files are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
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
        raise _cannot_write(path, error) from error
    finally:  # also after Ctrl-C in the middle of a write; once in place, there is none
        with suppress(OSError):
            temporary.unlink()


def append(path: Path, text: str) -> None:
    """Add ``text`` to a log. Raises :class:`StrokesError` as :func:`write_whole` does; what did not fit may be cut off."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError | SafetensorError) -> StrokesError:
    reason = error.strerror if isinstance(error, OSError) else None
    return StrokesError(f"cannot write {path} ({reason or error}): make room there, or choose another place")

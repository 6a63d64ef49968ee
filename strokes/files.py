"""Files: atomic writes, JSON, headers and shapes of safetensors files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .errors import StrokesError

# What can be done about a damaged file.
AGAIN = "download it again, or delete it where a training run has made it: it will be made again"

# Tensor names and their shapes.
Shapes = Mapping[str, tuple[int, ...]]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place; on any failure nothing is left.

    The file's mode follows the umask. Raises :class:`StrokesError` that names ``path`` where it cannot be written: a full
    disk, no permission.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        write(temporary)
        # safetensors puts a private file of its own in the place of the one it is given.
        temporary.chmod(mode)
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


def check_regular(path: Path) -> None:
    """Raise OSError for a folder, a device or a pipe, of which the last two might be read without end."""
    if path.exists() and not path.is_file():
        raise OSError("no regular file")


def load_json(path: Path) -> Any:
    """The value in a JSON file. Raises OSError where it cannot be read, ValueError where it is no JSON or nested too deep."""
    check_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json(path: Path, required: bool = True) -> dict[str, Any]:
    """The object in a JSON file of a model or a run; {} where it is missing and not required. Raises StrokesError."""
    if not required and not path.exists():
        return {}
    try:
        found = load_json(path)
    except FileNotFoundError:
        raise StrokesError(f"{path.parent} holds no {path.name}, which is needed beside the weights") from None
    except OSError as error:
        raise StrokesError(f"{path} cannot be read ({error.strerror or error}); {AGAIN}") from None
    except ValueError as error:
        raise StrokesError(f"{path} is not valid JSON ({error}); {AGAIN}") from None
    if not isinstance(found, dict):
        raise StrokesError(f"{path} holds no JSON object; {AGAIN}")
    return found


def open_safetensors(path: Path) -> Any:
    """An open safetensors file; a missing, truncated or foreign one is a one-line error."""
    from safetensors import safe_open

    try:
        return safe_open(path, "pt")
    except FileNotFoundError:
        raise StrokesError(f"no file {path}") from None
    except (SafetensorError, OSError) as error:
        raise StrokesError(f"{path} is truncated or no safetensors file ({error}); {AGAIN}") from None


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Keys and shapes, read from the header alone."""
    with open_safetensors(path) as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def sha256_of(path: Path) -> str:
    """SHA-256 of a whole file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's size and 64 samples of it: tells checkpoints apart without reading 29 GB."""
    size = path.stat().st_size
    h = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for i in range(64):
            file.seek(i * max(size - 65536, 0) // 63)
            h.update(file.read(65536))
    return h.hexdigest()[:16]


def check_shapes(found: Shapes, expected: Shapes, what: str) -> None:
    """Raise :class:`StrokesError` naming the first missing or misshapen tensor and what was expected."""
    missing = sorted(set(expected) - set(found))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise StrokesError(f"{what} lacks '{missing[0]}' {list(expected[missing[0]])}{more}")
    for key, shape in expected.items():
        if found[key] != shape:
            raise StrokesError(f"{what}: '{key}' has shape {list(found[key])}, expected {list(shape)}")


def check_same_shapes(found: Shapes, expected: Shapes, what: str) -> None:
    """:func:`check_shapes`, and nothing may be there that is not expected."""
    check_shapes(found, expected, what)
    if strange := sorted(set(found) - set(expected)):
        raise StrokesError(f"{what} is of another network: it also holds '{strange[0]}'")

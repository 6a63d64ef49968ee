"""Model folders to be damaged: links to the embedded model's files, and what must come of opening them."""

from __future__ import annotations

import json
import struct
import time
from functools import cache
from pathlib import Path
from typing import Any

from strokes.errors import StrokesError
from strokes.models import EMBEDDED, open_painter

# Seconds that an attempt may take at most.
SECONDS = 2


@cache
def _import_all() -> None:
    """Imports are not what an attempt costs."""
    open_painter(EMBEDDED)


def linked(folder: Path) -> Path:
    """The embedded model's folder as links: what a test damages, it writes anew."""
    _import_all()
    folder.mkdir()
    for path in EMBEDDED.iterdir():
        if path.suffix in (".json", ".safetensors"):
            (folder / path.name).symlink_to(path)
    return folder


def replace_file(path: Path, content: bytes | str) -> None:
    """Write a file in the place of a link."""
    path.unlink(missing_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def assert_refused(path: Path, *names: str) -> None:
    """Opening ``path`` ends in one short line that holds ``names``, soon."""
    begun = time.perf_counter()
    try:
        open_painter(path)
    except StrokesError as error:
        text = str(error)
    else:
        raise AssertionError("it opened")
    assert time.perf_counter() - begun < SECONDS
    assert "\n" not in text and len(text) < 900, text
    for name in names:
        assert name in text, text


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def packed(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    """A safetensors file of a header, or of any bytes in its place."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data

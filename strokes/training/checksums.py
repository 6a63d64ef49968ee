"""SHA-256 of the files that a training run reads again, in its manifest ``files.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import StrokesError
from ..files import read_json, sha256_of, write_whole

MANIFEST = "files.json"


class Checksums:
    """The checksums of a run, kept in ``folder/files.json`` and read from there each time.

    A file's entry lists the digest of what is written now and, behind it, of what stood there before: a run killed
    between the two writes leaves either. A file without an entry (a run of version 0.1.0) gets one when it is first read,
    if this process ``records``: of several that share a run only one may.
    """

    def __init__(self, folder: Path, records: bool = True):
        self.folder, self.records = folder, records

    def write(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write ``path`` as :func:`strokes.files.write_whole` does, its checksum first."""

        def fill(temporary: Path) -> None:
            write(temporary)
            self._record(path, temporary)

        write_whole(path, fill)

    def check(self, path: Path) -> None:
        """Raise StrokesError, with the remedy, where ``path`` is not what the run has written."""
        known = self._read().get(self._name(path))
        if known is None:
            if self.records:
                self._record(path, path)
        elif sha256_of(path) not in known:
            raise StrokesError(
                f"{path} is not what the run wrote there (its SHA-256 is another): delete it, and run again: "
                "it will be made again"
            )

    def _record(self, path: Path, content: Path) -> None:
        entries, name = self._read(), self._name(path)
        entries[name] = list(dict.fromkeys([sha256_of(content), *entries.get(name, [])]))[:2]
        text = json.dumps(dict(sorted(entries.items())), indent=1) + "\n"
        write_whole(self.folder / MANIFEST, lambda to: to.write_text(text, encoding="utf-8"))

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def _read(self) -> dict[str, list[str]]:
        path = self.folder / MANIFEST
        entries = read_json(path, required=False)
        if not all(isinstance(known, list) and all(isinstance(d, str) for d in known) for known in entries.values()):
            raise StrokesError(
                f"{path} does not list checksums: delete it, and run again: the files are taken as they are"
            )
        return entries

"""Data sets on disk: shards of samples as JSON lines, stored pictures beside them, and a manifest with counts and SHA-256.

A shard is a function of the settings and its number, so a build that was cut off goes on where it was and ends with the
same files. Scenes are written as shapes and rendered where they are trained on; only stored pictures are pixels.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from torch.utils.data import Dataset

from ..errors import StrokesError
from ..files import read_json, sha256_of, write_whole
from ..shapes.drawing import Shape
from .samples import Drawing, OneShotSample, RoundSample, Sample, StoredPicture

log = logging.getLogger(__name__)

VERSION = 4
MANIFEST = "manifest.json"
_NAME = re.compile(r"shard-\d{5,}")
# How a shape is written: its numbers in this order.
_SHAPE = ("colour", "kind", "x", "y", "r")
_DRAWINGS = ("canvas", "sketch", "seen", "refined", "scene")
# JSON keys of fields, where they differ: version 0.1.0 wrote them.
_KEYS = {"caption": "sight"}


def to_record(sample: Sample, pictures: dict[StoredPicture, int]) -> dict[str, Any]:
    """A sample as JSON values. A stored picture is its number in ``pictures``, to which new ones are added."""

    def drawing(value: Drawing | None) -> Any:
        if isinstance(value, StoredPicture):
            return pictures.setdefault(value, len(pictures))
        return (
            None if value is None else [[s.colour, s.kind, round(s.x, 2), round(s.y, 2), round(s.r, 2)] for s in value]
        )

    record = {_KEYS.get(f.name, f.name): getattr(sample, f.name) for f in fields(sample)}
    return {name: drawing(value) if name in _DRAWINGS else value for name, value in record.items()}


def from_record(record: dict[str, Any], pictures: Sequence[StoredPicture]) -> Sample:
    """The inverse of :func:`to_record`."""

    def drawing(value: Any) -> Any:
        if isinstance(value, int):
            return pictures[value]
        return None if value is None else [Shape(**dict(zip(_SHAPE, row, strict=True))) for row in value]

    names = {key: name for name, key in _KEYS.items()}
    values = {names.get(key, key): drawing(value) if key in _DRAWINGS else value for key, value in record.items()}
    return OneShotSample(**values) if "scene" in values else RoundSample(**values)


def _write_shard(folder: Path, name: str, samples: Iterable[Sample]) -> dict[str, Any]:
    """Write one shard and return its row of the manifest."""
    pictures: dict[StoredPicture, int] = {}
    kinds, verbs = Counter[str](), Counter[str]()
    records = []
    for sample in samples:
        records.append(to_record(sample, pictures))
        kinds[sample.kind] += 1
        if isinstance(sample, RoundSample):
            verbs[sample.verb] += 1
    text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    write_whole(folder / f"{name}.jsonl", lambda path: path.write_text(text, encoding="utf-8"))
    files = {f"{name}.jsonl": sha256_of(folder / f"{name}.jsonl")}
    if pictures:
        tensors = {key: np.stack([getattr(p, key) for p in pictures]) for key in ("pixels", "latents")}
        write_whole(folder / f"{name}.safetensors", lambda path: save_file(tensors, path))
        files[f"{name}.safetensors"] = sha256_of(folder / f"{name}.safetensors")
    return {
        "name": name,
        "samples": len(records),
        "kinds": dict(sorted(kinds.items())),
        "steps": dict(sorted(verbs.items())),
        "files": files,
    }


def _whole(folder: Path, row: dict[str, Any]) -> bool:
    return all(
        (folder / name).is_file() and sha256_of(folder / name) == digest for name, digest in row["files"].items()
    )


def build(
    folder: Path,
    settings: dict[str, Any],
    shards: int,
    make: Callable[[int], Iterable[Sample]],
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 0,
) -> dict[str, Any]:
    """Make the shards that are not there yet or no longer whole, and return the manifest.

    ``make(i)`` gives the samples of shard i, a function of i and ``settings`` (JSON values). With ``workers`` above 0 so
    many processes make shards, and ``make`` must be picklable. ``report(shards, of)``. Raises StrokesError where the folder
    holds data of other settings or a damaged manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))
    known = {}
    if (folder / MANIFEST).exists():
        manifest = _read_manifest(folder)
        if manifest["settings"] != settings:
            raise StrokesError(f"{folder} holds data made with other settings ({MANIFEST}): choose another folder")
        known = {row["name"]: row for row in manifest["shards"] if _whole(folder, row)}
        if broken := [row["name"] for row in manifest["shards"] if row["name"] not in known]:
            log.warning("%s: %s missing or corrupt, made again; the others are kept", folder, ", ".join(broken))
    names = [f"shard-{i:05d}" for i in range(shards)]
    due = [i for i, name in enumerate(names) if name not in known]
    report(shards - len(due), shards)

    def manifest_now() -> dict[str, Any]:
        rows = [known[name] for name in names if name in known]
        totals = {key: _sum(row[key] for row in rows) for key in ("kinds", "steps")}
        count = sum(row["samples"] for row in rows)
        return {"version": VERSION, "settings": settings, "samples": count, **totals, "shards": rows}

    def keep(row: dict[str, Any]) -> None:
        known[row["name"]] = row
        text = json.dumps(manifest_now(), indent=1) + "\n"
        write_whole(folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))
        report(len(known), shards)

    one = partial(_make_shard, folder, make)
    if workers and due:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            for row in pool.map(one, due):
                keep(row)
    else:
        for i in due:
            keep(one(i))
    return manifest_now()


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    return dict(sorted(sum(map(Counter, counts), Counter()).items()))


def _make_shard(folder: Path, make: Callable[[int], Iterable[Sample]], i: int) -> dict[str, Any]:
    return _write_shard(folder, f"shard-{i:05d}", make(i))


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        raise StrokesError(f"{folder} holds no training data: there is no {MANIFEST}")
    manifest = read_json(folder / MANIFEST)
    if manifest.get("version") != VERSION:
        raise StrokesError(f"{folder / MANIFEST} is of version {manifest.get('version')}; this reads version {VERSION}")
    rows: Any = manifest.get("shards")
    listed = isinstance(rows, list) and all(_is_row(row) for row in rows)
    if not listed or "settings" not in manifest or len({row["name"] for row in rows}) < len(rows):
        raise StrokesError(f"{folder / MANIFEST} does not list its shards: delete {folder}, and build the data again")
    return manifest


def _is_row(row: Any) -> bool:
    """Whether a row of a manifest has the keys and types that :func:`_write_shard` gives it."""
    if not isinstance(row, dict) or not isinstance(name := row.get("name"), str) or not _NAME.fullmatch(name):
        return False
    samples, files = row.get("samples"), row.get("files")
    if type(samples) is not int or samples < 0 or not isinstance(files, dict):
        return False
    if not {f"{name}.jsonl"} <= files.keys() <= {f"{name}.jsonl", f"{name}.safetensors"}:
        return False
    counts = [row.get("kinds"), row.get("steps")]
    return all(isinstance(digest, str) for digest in files.values()) and all(
        isinstance(count, dict) and all(type(n) is int for n in count.values()) for count in counts
    )


@dataclass(frozen=True)
class _Shard:
    """A shard in memory: a JSON line a sample, parsed when it is asked for, and its stored pictures."""

    lines: list[bytes]
    pictures: list[StoredPicture]


class ShardSet(Dataset[Sample]):
    """The samples of a data set's folder, by number.

    Raises StrokesError that names every shard that is missing or whose checksum is wrong.
    """

    def __init__(self, folder: Path):
        manifest = _read_manifest(folder)
        broken = [row["name"] for row in manifest["shards"] if not _whole(folder, row)]
        if broken:
            raise StrokesError(
                f"{folder}: {', '.join(broken)} missing or corrupt; build the data again: only these are made anew"
            )
        self.manifest = manifest
        self._shards = [_read_shard(folder, row) for row in manifest["shards"]]
        self._starts = np.cumsum([0, *(len(shard.lines) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Sample:
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        shard = self._shards[number]
        return from_record(json.loads(shard.lines[index - int(self._starts[number])]), shard.pictures)


def _read_shard(folder: Path, row: dict[str, Any]) -> _Shard:
    lines = (folder / f"{row['name']}.jsonl").read_bytes().splitlines()
    path = folder / f"{row['name']}.safetensors"
    if path.name not in row["files"]:
        return _Shard(lines, [])
    tensors = load_file(path)
    return _Shard(lines, [StoredPicture(*pair) for pair in zip(tensors["pixels"], tensors["latents"], strict=True)])

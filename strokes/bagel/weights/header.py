"""Headers of safetensors files: names, types, shapes and metadata, read and checked without reading a tensor.

A header is JSON behind its own length (8 bytes, little endian). It is read here and not by the safetensors library, because
that one says of a damaged file only that it is damaged, and passes over a name given twice.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ...errors import StrokesError
from ...files import AGAIN, check_regular, read_json

# Bits of an element of each type in a header.
BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8,
}  # fmt: skip
# Longest header in bytes, and most tensors, that are read: far above a quantised BAGEL's 1 MB and 6,000.
LONGEST, MOST = 8_000_000, 100_000
# Largest size of one dimension: beyond it sizes are no longer numbers that torch can hold.
LARGEST = 2**40
# The name of a shard: its number of how many.
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")
# A file's name without a folder.
_FILE_NAME = re.compile(r"[^/\\\x00]{1,200}\.safetensors")
INDEX = ".safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tensor of a ``file``: its ``key`` there, its type as the header writes it (BF16, F8_E4M3 …), its shape.

    Its bytes are ``file[start : start + nbytes]``.
    """

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def parameters(self) -> int:
        return prod(self.shape)

    def read_bytes(self, most: int) -> bytes:
        """The bytes of a tensor, ``most`` at most."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(min(self.nbytes, most))


@dataclass(frozen=True)
class Header:
    """Tensors by key and metadata of one safetensors file, or of all shards of a checkpoint."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON document. Raises ValueError for a name that is there twice."""
    out = dict(pairs)
    if len(out) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"'{name[:100]}' is there twice")
    return out


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises :class:`StrokesError` naming the file and the tensor: no safetensors file, cut off, longer than the file, a type
    that nobody knows, a shape without elements, tensors that do not lie one after another.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(size - 8, LONGEST):
                raise StrokesError(f"{path} is truncated or no safetensors file; {AGAIN}")
            text = file.read(length)
    except FileNotFoundError:
        raise StrokesError(f"no file {path}") from None
    except OSError as error:
        raise StrokesError(f"{path} cannot be read ({error.strerror or error}); {AGAIN}") from None
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except RecursionError:
        raise StrokesError(f"{path}: its header is nested too deep; {AGAIN}") from None
    except ValueError as error:
        raise StrokesError(f"{path}: its header cannot be read ({error}); {AGAIN}") from None
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise StrokesError(f"{path}: the metadata of its header is no list of texts; {AGAIN}")
    if len(found) > MOST:
        raise StrokesError(f"{path} holds {len(found)} tensors; no model that is read has more than {MOST}")
    tensors = {key: _entry(path, key, value, 8 + length) for key, value in found.items()}
    _check_places(path, list(tensors.values()), 8 + length, size)
    return Header(tensors, metadata)


def _entry(path: Path, key: str, found: Any, base: int) -> TensorEntry:
    """One tensor of a header; ``base`` is where the file's data begin. Raises StrokesError where it is not well formed."""
    name = f"{path}: '{key[:200]}'"
    if not isinstance(found, dict) or not {"dtype", "shape", "data_offsets"} <= found.keys():
        raise StrokesError(f"{name} lacks type, shape or place in the header; {AGAIN}")
    dtype, shape, offsets = found["dtype"], found["shape"], found["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise StrokesError(f"{name} is of a type that is not read: {str(dtype)[:60]!r}; known are {', '.join(BITS)}")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise StrokesError(f"{name} has no proper shape or place in the header; {AGAIN}")
    if 0 in shape:
        raise StrokesError(f"{name} has shape {shape} and no elements; {AGAIN}")
    start, stop = offsets
    if stop - start != prod(shape) * BITS[dtype] // 8:
        raise StrokesError(f"{name} {shape} {dtype} cannot take {stop - start} bytes; {AGAIN}")
    return TensorEntry(file=path, key=key, dtype=dtype, shape=tuple(shape), start=base + start, nbytes=stop - start)


def _whole_numbers(value: Any) -> bool:
    """Whether a value of a header is a list of sizes."""
    return (
        isinstance(value, list)
        and len(value) <= 8
        and all(type(number) is int and 0 <= number <= LARGEST for number in value)
    )


def _check_places(path: Path, tensors: list[TensorEntry], base: int, size: int) -> None:
    """Raise StrokesError where the tensors do not fill the ``size`` bytes of the file from ``base`` on, one after another."""
    end = base
    for entry in sorted(tensors, key=lambda entry: entry.start):
        if entry.start + entry.nbytes > size:
            missing = entry.start + entry.nbytes - size
            raise StrokesError(f"{path} is truncated: '{entry.key[:200]}' would end {missing} bytes behind it; {AGAIN}")
        if entry.start != end:
            raise StrokesError(f"{path}: '{entry.key[:200]}' does not follow the tensor before it; {AGAIN}")
        end += entry.nbytes
    if end != size:
        raise StrokesError(f"{path} has {size - end} bytes that belong to no tensor; {AGAIN}")


def shards_of(path: Path) -> list[Path]:
    """All shards of a checkpoint, of its index file or of one shard; of any other file, the file alone.

    Raises :class:`StrokesError` naming a shard that is missing, and an index that names none or files elsewhere.
    """
    if path.name.endswith(INDEX):
        return _shards_in(path)
    if not (match := _SHARD.fullmatch(path.name)):
        return [path]
    stem, _, total = match.groups()
    index = path.with_name(stem + INDEX)
    if index.exists():
        return _shards_in(index)
    # Every shard's own header says what is in it: without its index, only the number of shards can be checked.
    shards = [path.with_name(f"{stem}-{number:05}-of-{total}.safetensors") for number in range(1, int(total) + 1)]
    for shard in shards:
        if not shard.exists():
            raise StrokesError(
                f"{path.parent} lacks {shard.name} and {index.name}: download the shards again, with the index"
            )
    return shards


def shards_named(index: Path) -> list[Path]:
    """The shards that an index file names, there or not. Raises :class:`StrokesError` where it names none or files elsewhere."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise StrokesError(f"{index} lists no shards under 'weight_map'; {AGAIN}")
    if not all(isinstance(name, str) and _FILE_NAME.fullmatch(name) for name in weight_map.values()):
        raise StrokesError(f"{index}: 'weight_map' must name .safetensors files beside it; {AGAIN}")
    return [index.with_name(name) for name in sorted(set(weight_map.values()))]


def _shards_in(index: Path) -> list[Path]:
    shards = shards_named(index)
    for shard in shards:
        if not shard.exists():
            raise StrokesError(f"{index.parent} lacks the shard {shard.name}, which {index.name} names; download it")
    return shards


def read_headers(paths: Sequence[Path]) -> Header:
    """The headers of all shards as one. Raises :class:`StrokesError` as :func:`read_header`, and for a key in two shards."""
    tensors: dict[str, TensorEntry] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        header = read_header(path)
        if twice := sorted(tensors.keys() & header.tensors.keys()):
            other = tensors[twice[0]].file.name
            raise StrokesError(f"'{twice[0][:200]}' is in two shards, {other} and {path.name}: download both again")
        tensors |= header.tensors
        metadata |= header.metadata
    return Header(tensors, metadata)

"""A trajectory as a folder: ``trajectory.json`` beside ``pictures/``, one PNG (and latents) for every picture.

File names carry the picture's digest, so files are never changed in place: whatever was saved before stays valid until
the document, written last, names the new ones, and saving again after every turn writes only what is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_tensors

from ..errors import StrokesError
from ..files import check_regular, load_json, write_whole
from .pictures import Picture, read_image, to_rgb, upright_rgb
from .trajectory import (
    FORMAT_VERSION,
    Author,
    Cost,
    Critique,
    End,
    Origin,
    OutOfOrder,
    Painting,
    Plan,
    Refinement,
    Trajectory,
)

DOCUMENT, PICTURES = "trajectory.json", "pictures"
LONGEST_SIDE = 16384
LARGEST_LATENT = 1e4
_OWN_FILE = re.compile(r"(start|round\d+-(sketch|refined|rejected))-[0-9a-f]{12}\.(png|safetensors)")
# Fields that version 1 lacks, by what holds them: with their defaults they are left out.
_NEW_IN_2: dict[type, tuple[str, ...]] = {
    Cost: ("scored",),
    Critique: ("margin", "unreadable"),
    Refinement: ("margin", "rejected", "repainted_margin", "problem"),
    End: ("problem",),
}
# The types that a field of a dataclass may have in JSON, by its annotation.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
}
T = TypeVar("T")


def save(trajectory: Trajectory, folder: Path | str) -> Path:
    """Write the trajectory, replacing the one that was there; returns the path of the document.

    Interrupted at any point, the folder still loads as it was. Raises StrokesError where it cannot be written.
    """
    folder = Path(folder)
    try:
        _check(trajectory)
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        pictures = [*trajectory.pictures, *trajectory.rejected]
        refs = {id(picture): _save_picture(picture, name, folder) for name, picture in pictures}
        document = _document(trajectory, refs)
        text = json.dumps(document, indent=2)
        write_whole(folder / DOCUMENT, lambda path: path.write_text(text, encoding="utf-8"))
        used = {Path(name).name for ref in refs.values() for name in (ref["file"], ref.get("latents", ""))}
        for path in (folder / PICTURES).iterdir():
            if _OWN_FILE.fullmatch(path.name) and path.name not in used:
                path.unlink()
    except (OSError, ValueError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise StrokesError(f"{folder}: cannot save the trajectory: {reason}") from error
    return folder / DOCUMENT


def load(path: Path | str) -> Trajectory:
    """Read a trajectory from its folder or its document.

    A PNG that was repainted by hand is taken as it is, without its latents. Raises StrokesError, naming the file, for
    anything missing, damaged or made by a newer version.
    """
    path = Path(path)
    try:
        path = path / DOCUMENT if path.is_dir() else path
        document = load_json(path)
    except FileNotFoundError:
        raise StrokesError(f"{path}: no such file; choose a trajectory folder or its {DOCUMENT}") from None
    except OSError as error:
        raise StrokesError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise StrokesError(f"{path}: not a trajectory document (not JSON)") from error
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or not 0 < version < 2**31:
        raise StrokesError(f"{path}: not a trajectory document (no version)")
    if version > FORMAT_VERSION:
        raise StrokesError(f"{path}: made by a newer version of Strokes (format {version}); update to open it")
    try:
        _check_values(document)
        return _Reader(path).trajectory(document)
    except _Damaged as error:
        raise StrokesError(f"{path}: not a complete trajectory document ({error}); restore it from a backup") from error


class _Damaged(ValueError):
    """Error of a damaged value in a document; the message says what is wrong with it."""


def _check(trajectory: Trajectory) -> None:
    """Raise ValueError for what would not load again."""
    _size(trajectory.size)
    _check_values(_encode(trajectory, {}))
    for name, picture in [*trajectory.pictures, *trajectory.rejected]:
        if (latents := picture.latents) is not None:
            dtype = "F32" if latents.dtype == np.float32 else str(latents.dtype)
            if problem := _shape_problem(dtype, latents.shape, picture.image.size) or _value_problem(latents):
                raise ValueError(f"{name}: {problem}")


def _save_picture(picture: Picture, name: str, folder: Path) -> dict[str, Any]:
    stem = f"{PICTURES}/{name}-{picture.digest[:12]}"
    ref: dict[str, Any] = {"file": f"{stem}.png", "pixels": _pixels(picture.image), "size": list(picture.image.size)}
    if not (folder / ref["file"]).exists():
        write_whole(folder / ref["file"], lambda path: picture.image.save(path, "PNG"))
    if (latents := picture.latents) is not None:
        ref |= {"latents": f"{stem}.safetensors", "codec": picture.codec}
        if not (folder / ref["latents"]).exists():
            tensors = {"latents": np.ascontiguousarray(latents)}
            write_whole(folder / ref["latents"], lambda path: save_tensors(tensors, path))
    return ref


def _document(trajectory: Trajectory, refs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """A trajectory as JSON values, in the oldest version that can say it."""
    values = [*trajectory.turns, *(turn.origin.cost for turn in trajectory.turns)]
    new = any(getattr(value, f.name) != f.default for value in values for f in _new_fields(value))
    new = new or any(round_.plan is None for round_ in trajectory.rounds)
    return {"version": FORMAT_VERSION if new else 1, **_encode(trajectory, refs)}


def _new_fields(value: Any) -> list[Field[Any]]:
    """The fields of a dataclass that version 1 lacks."""
    return [f for f in fields(value) if f.name in _NEW_IN_2.get(type(value), ())]


def _encode(value: Any, refs: dict[int, dict[str, Any]]) -> Any:
    if isinstance(value, Picture):
        return refs.get(id(value))
    if is_dataclass(value):
        left_out = {f.name for f in _new_fields(value) if getattr(value, f.name) == f.default}
        return {f.name: _encode(getattr(value, f.name), refs) for f in fields(value) if f.name not in left_out}
    return [_encode(item, refs) for item in value] if isinstance(value, tuple) else value


def _check_values(document: Any) -> None:
    """Raise _Damaged for numbers that are infinite, not a number or beyond 64 bits, and for text that is not Unicode."""
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += (*value, *value.values())
        elif isinstance(value, (list, tuple)):
            left += value
        elif isinstance(value, float) and not isfinite(value):
            raise _Damaged(f"{value} is no number it can hold")
        elif isinstance(value, int) and abs(value) >= 2**64:
            raise _Damaged("a whole number beyond 64 bits is no number it can hold")
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise _Damaged(f"text with a lone surrogate, {value[error.start]!a}") from None


def _pixels(image: Image.Image) -> str:
    return sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


@dataclass(frozen=True)
class _Reader:
    """Decodes one document. Unknown keys are ignored and missing ones take their defaults, so older documents load.

    Raises _Damaged for a value that cannot be, and StrokesError that names a picture's file.
    """

    path: Path

    def trajectory(self, doc: dict[str, Any]) -> Trajectory:
        size, rounds, end = _size(_required(doc, "size")), _required(doc, "rounds"), doc.get("end")
        start = self.picture(doc.get("start"), size)
        trajectory = self.make(Trajectory, doc, size=size, start=start, rounds=(), end=None)
        if not isinstance(rounds, list):
            raise _Damaged("rounds should be a list")
        for round_ in rounds:
            trajectory = self.with_round(trajectory, _object(round_, "a round"))
        return trajectory if end is None else trajectory.with_end(self.turn(End, _object(end, "end")))

    def with_round(self, trajectory: Trajectory, doc: dict[str, Any]) -> Trajectory:
        said = _required(doc, "plan")
        plan = None if said is None else self.turn(Plan, _object(said, "plan"))
        turns = {
            key: _object(doc[key], key) for key in ("sketch", "critique", "refinement") if doc.get(key) is not None
        }
        try:
            trajectory = trajectory.with_plan(plan)
            if sketch := turns.get("sketch"):
                picture = self.picture(_object(_required(sketch, "picture"), "picture"), trajectory.size)
                trajectory = trajectory.with_sketch(self.turn(Painting, sketch, picture=picture))
            if critique := turns.get("critique"):
                trajectory = trajectory.with_critique(self.turn(Critique, critique))
            if refinement := turns.get("refinement"):
                pictures = {
                    name: self.picture(refinement.get(name), trajectory.size) for name in ("picture", "rejected")
                }
                trajectory = trajectory.with_refinement(self.turn(Refinement, refinement, **pictures))
        except OutOfOrder as error:
            raise _Damaged(str(error)) from None
        return trajectory

    def turn(self, kind: type[T], doc: dict[str, Any], **decoded: Any) -> T:
        origin = _object(doc.get("origin", {}), "origin")
        cost = self.make(Cost, _object(origin.get("cost", {}), "cost"))
        if not all(0 <= value < 2**64 for value in (cost.model_calls, cost.tokens, cost.seconds, cost.scored)):
            raise _Damaged("a cost below 0 or beyond 64 bits")
        settings = _object(origin.get("settings", {}), "settings")
        return self.make(kind, doc, origin=self.make(Origin, origin, cost=cost, settings=settings), **decoded)

    def make(self, kind: type[T], doc: dict[str, Any], **decoded: Any) -> T:
        known = {f.name: doc[f.name] for f in fields(kind) if f.name in doc and f.name not in decoded}  # type: ignore
        for f in fields(kind):  # type: ignore
            if f.name in known:
                _check_type(known[f.name], str(f.type), f.name)
            elif f.name not in decoded and f.default is f.default_factory is MISSING:
                raise _Damaged(f"{f.name} is missing")
        return kind(**known, **decoded)

    def picture(self, ref: Any, size: tuple[int, int]) -> Picture | None:
        if ref is None:
            return None
        path = self.inside(_required(_object(ref, "picture"), "file"))
        # The canvas may have been resized since; a document of before that was possible has one size only.
        width, height = _size(ref.get("size", size))
        try:
            stored = read_image(path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise StrokesError(f"{path}: the picture is missing or damaged; restore it from a backup") from error
        unchanged = _pixels(stored) == ref.get("pixels")
        image = to_rgb(stored) if unchanged else upright_rgb(stored, path)
        if image.size != (width, height):
            raise StrokesError(f"{path}: {image.width}×{image.height}, but it was painted at {width}×{height}")
        if "latents" not in ref or not unchanged:
            return Picture(image)
        codec = _required(ref, "codec")
        _check_type(codec, "str", "codec")
        return Picture(image, _read_latents(self.inside(ref["latents"]), image.size), codec)

    def inside(self, name: Any) -> Path:
        """The path of a file of the trajectory by its name in the document."""
        _check_type(name, "str", "a picture's file")
        folder = self.path.parent.resolve()
        try:
            path = (folder / name).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # over-long, NUL, links in a circle
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise StrokesError(f"{self.path}: the picture {name[:80]!r} cannot be looked up: {reason}") from None
        if not path.is_relative_to(folder):
            raise StrokesError(f"{self.path}: the picture {name[:80]} lies outside the trajectory's folder")
        return path


def _required(doc: dict[str, Any], key: str) -> Any:
    if key not in doc:
        raise _Damaged(f"{key} is missing")
    return doc[key]


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Damaged(f"{what} should be an object")
    return value


def _check_type(value: Any, annotation: str, what: str) -> None:
    """Raise _Damaged for a value of another type than a dataclass's field; True and False are no numbers."""
    if annotation == "Author":
        if value not in get_args(Author):
            raise _Damaged(f"{what} should be {' or '.join(get_args(Author))}")
        return
    wanted = _TYPES.get(annotation, (object,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted and object not in wanted):
        raise _Damaged(f"{what} should be {annotation}")


def _size(value: Any) -> tuple[int, int]:
    """A canvas as (width, height). Raises _Damaged where it is none."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or any(type(side) is not int for side in value):
        raise _Damaged("a size should be two whole numbers, width and height")
    width, height = value
    if not 1 <= min(width, height) <= max(width, height) <= LONGEST_SIDE:
        raise _Damaged(f"a canvas of {width}×{height}; sides are from 1 to {LONGEST_SIDE} pixels")
    return width, height


def _read_latents(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The latents of a picture of ``size``, checked by the header before they are read. Raises StrokesError."""
    try:
        check_regular(path)
        with safe_open(path, "np") as file:
            header = file.get_slice("latents")
            problem = _shape_problem(header.get_dtype(), header.get_shape(), size)
            latents = None if problem else file.get_tensor("latents")
    except (OSError, SafetensorError) as error:
        raise StrokesError(f"{path}: the latents are missing or damaged; restore them from a backup") from error
    if latents is None or (problem := _value_problem(latents)):
        raise StrokesError(f"{path}: {problem}; restore them from a backup")
    return latents


def _shape_problem(dtype: str, shape: Sequence[int], size: tuple[int, int]) -> str:
    """Why these are no latents of a picture of ``size``: floats ``[C, h, w]`` on a grid that divides both sides alike; ""
    where they are."""
    if dtype != "F32" or len(shape) != 3 or 0 in shape:
        return f"{dtype} latents of shape {list(shape)}, where F32 of [C, h, w] was expected"
    (width, height), (rows, columns) = size, shape[1:]
    if width % columns or height % rows or width // columns != height // rows:
        return f"latents of {columns}×{rows} do not fit a picture of {width}×{height}"
    return ""


def _value_problem(latents: np.ndarray) -> str:
    # Scaled latents have about unit variance. NaN compares as false.
    return "" if (np.abs(latents) <= LARGEST_LATENT).all() else "the latents hold NaN or values that no picture has"

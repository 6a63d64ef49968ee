"""A trajectory as a folder: ``trajectory.json`` beside ``pictures/``, one PNG (and latents) for every picture.

File names carry the picture's digest, so files are never changed in place: whatever was saved before stays valid until
the document, written last, names the new ones, and saving again after every turn writes only what is new.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields, is_dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_tensors

from ..errors import StrokesError
from ..files import write_whole
from .pictures import Picture, read_image, to_rgb
from .trajectory import FORMAT_VERSION, Cost, Critique, End, Origin, Painting, Plan, Refinement, Trajectory

DOCUMENT, PICTURES = "trajectory.json", "pictures"
LONGEST_SIDE = 16384
LARGEST_LATENT = 1e4
_OWN_FILE = re.compile(r"(start|round\d+-(sketch|refined))-[0-9a-f]{12}\.(png|safetensors)")
_TYPES: dict[str, Any] = {"str": str, "bool": bool, "int": int, "float": (int, float), "int | None": (int, type(None))}
T = TypeVar("T")


def save(trajectory: Trajectory, folder: Path | str) -> Path:
    """Write the trajectory, replacing the one that was there; returns the path of the document.

    Interrupted at any point, the folder still loads as it was. Raises StrokesError where it cannot be written.
    """
    folder = Path(folder)
    if problem := _impossible(_encode(trajectory, {})):
        raise StrokesError(f"{folder}: cannot save the trajectory: {problem}")
    try:
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        refs = {id(picture): _save_picture(picture, name, folder) for name, picture in trajectory.pictures}
        document = {"version": FORMAT_VERSION, **_encode(trajectory, refs)}
        text = json.dumps(document, indent=2)
        write_whole(folder / DOCUMENT, lambda path: path.write_text(text, encoding="utf-8"))
        used = {Path(name).name for ref in refs.values() for name in (ref["file"], ref.get("latents", ""))}
        for path in (folder / PICTURES).iterdir():
            if _OWN_FILE.fullmatch(path.name) and path.name not in used:
                path.unlink()
    except OSError as error:
        raise StrokesError(f"{folder}: cannot save the trajectory: {error.strerror or error}") from error
    return folder / DOCUMENT


def load(path: Path | str) -> Trajectory:
    """Read a trajectory from its folder or its document.

    A PNG that was repainted by hand is taken as it is, without its latents. Raises StrokesError, naming the file, for
    anything missing, damaged or made by a newer version.
    """
    path = Path(path)
    path = path / DOCUMENT if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StrokesError(f"{path}: no such file; choose a trajectory folder or its {DOCUMENT}") from None
    except OSError as error:
        raise StrokesError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StrokesError(f"{path}: not a trajectory document (not JSON)") from error
    if not isinstance(document, dict) or type(version := document.get("version")) is not int:
        raise StrokesError(f"{path}: not a trajectory document (no version)")
    if version > FORMAT_VERSION:
        raise StrokesError(f"{path}: made by a newer version of Strokes (format {version}); update to open it")
    try:
        if problem := _impossible(document):
            raise ValueError(problem)
        return _Reader(path).trajectory(document)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StrokesError(f"{path}: not a complete trajectory document ({error})") from error


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


def _encode(value: Any, refs: dict[int, dict[str, Any]]) -> Any:
    if isinstance(value, Picture):
        return refs.get(id(value))
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name), refs) for f in fields(value)}
    return [_encode(item, refs) for item in value] if isinstance(value, tuple) else value


def _impossible(document: Any) -> str:
    """What no document may hold: a number that is infinite, not a number or beyond 64 bits, or text that is not Unicode;
    "" where there is none of it."""
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += (*value, *value.values())
        elif isinstance(value, list):
            left += value
        elif isinstance(value, float) and not isfinite(value) or isinstance(value, int) and abs(value) >= 2**64:
            return f"{value if isinstance(value, float) else 'a whole number beyond 64 bits'} is no number it can hold"
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return f"text with a lone surrogate, {value[error.start]!a}"
    return ""


def _pixels(image: Image.Image) -> str:
    return sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()


@dataclass(frozen=True)
class _Reader:
    """Decodes one document. Unknown keys are ignored and missing ones take their defaults, so older documents load."""

    path: Path

    def trajectory(self, doc: dict[str, Any]) -> Trajectory:
        size = _size(doc["size"])
        start = self.picture(doc.get("start"), size)
        trajectory = self.make(Trajectory, doc, size=size, start=start, rounds=(), end=None)
        for round_ in doc["rounds"]:
            trajectory = trajectory.with_plan(self.turn(Plan, round_["plan"]))
            if sketch := round_.get("sketch"):
                picture = self.picture(sketch["picture"], size)
                trajectory = trajectory.with_sketch(self.turn(Painting, sketch, picture=picture))
            if critique := round_.get("critique"):
                trajectory = trajectory.with_critique(self.turn(Critique, critique))
            if refinement := round_.get("refinement"):
                picture = self.picture(refinement.get("picture"), size)
                trajectory = trajectory.with_refinement(self.turn(Refinement, refinement, picture=picture))
        end = doc.get("end")
        return trajectory.with_end(self.turn(End, end)) if end else trajectory

    def turn(self, kind: type[T], doc: dict[str, Any], **decoded: Any) -> T:
        origin = doc.get("origin", {})
        cost = self.make(Cost, origin.get("cost", {}))
        settings = dict(origin.get("settings", {}))
        return self.make(kind, doc, origin=self.make(Origin, origin, cost=cost, settings=settings), **decoded)

    def make(self, kind: type[T], doc: dict[str, Any], **decoded: Any) -> T:
        known = {f.name: doc[f.name] for f in fields(kind) if f.name in doc and f.name not in decoded}  # type: ignore
        for f in fields(kind):  # type: ignore
            if f.name not in known:
                continue
            value, wanted = known[f.name], _TYPES.get(str(f.type), object)
            if not isinstance(value, wanted) or isinstance(value, bool) and wanted not in (bool, object):
                raise ValueError(f"{f.name} should be {f.type}")
        return kind(**known, **decoded)

    def picture(self, ref: dict[str, Any] | None, size: tuple[int, int]) -> Picture | None:
        if ref is None:
            return None
        path = self.inside(ref["file"])
        # The canvas may have been resized since; a document of before that was possible has one size only.
        width, height = _size(ref.get("size", size))
        try:
            image = read_image(path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise StrokesError(f"{path}: the picture is missing or damaged; restore it from a backup") from error
        if image.size != (width, height):
            raise StrokesError(f"{path}: {image.width}×{image.height}, but it was painted at {width}×{height}")
        if "latents" not in ref or _pixels(image) != ref["pixels"]:
            return Picture(to_rgb(image))
        path = self.inside(ref["latents"])
        try:
            latents = load_file(path)["latents"]
        except (OSError, SafetensorError, KeyError) as error:
            raise StrokesError(f"{path}: the latents are missing or damaged; restore them from a backup") from error
        _check_latents(latents, image.size, path)
        return Picture(to_rgb(image), latents, str(ref["codec"]))

    def inside(self, name: str) -> Path:
        folder = self.path.parent.resolve()
        try:
            path = (folder / name).resolve()
        except OSError as error:
            raise StrokesError(f"{self.path}: the picture {name!r} cannot be looked up: {error.strerror}") from None
        if not path.is_relative_to(folder):
            raise StrokesError(f"{self.path}: the picture {name} lies outside the trajectory's folder")
        return path


def _size(value: Any) -> tuple[int, int]:
    """A canvas as (width, height). Raises ValueError where it is none."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or any(type(side) is not int for side in value):
        raise ValueError("a size should be two whole numbers, width and height")
    width, height = value
    if not 1 <= min(width, height) <= max(width, height) <= LONGEST_SIDE:
        raise ValueError(f"a canvas of {width}×{height}; sides are from 1 to {LONGEST_SIDE} pixels")
    return width, height


def _check_latents(latents: np.ndarray, size: tuple[int, int], path: Path) -> None:
    """Raise StrokesError unless ``latents`` are finite floats ``[C, h, w]`` on a grid that divides both sides alike."""
    if latents.dtype.kind != "f" or latents.ndim != 3 or not latents.size:
        raise StrokesError(
            f"{path}: {latents.dtype} latents of shape {list(latents.shape)}; restore them from a backup"
        )
    (width, height), (rows, columns) = size, latents.shape[1:]
    if width % columns or height % rows or width // columns != height // rows:
        raise StrokesError(
            f"{path}: latents of {columns}×{rows} do not fit a picture of {width}×{height}; restore both"
        )
    # Scaled latents have about unit variance. NaN compares as false.
    if not (np.abs(latents) <= LARGEST_LATENT).all():
        raise StrokesError(f"{path}: the latents hold NaN or values that no picture has; restore them from a backup")

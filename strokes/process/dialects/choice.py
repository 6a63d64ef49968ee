"""Choosing a checkpoint's dialect: by name, by the checkpoint's own marker or its folder's name, or from a person's file.

A dialect file is JSON: ``based_on`` names one of :data:`BUILT_IN`, and every other key is a field of that dialect. The
files of two built-in dialects bring the texts that belong to their models' authors.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import StrokesError
from ...files import check_regular, load_json
from .miniature import MINIATURE, MiniatureDialect
from .paper import PAPER, PaperDialect
from .plain import PLAIN, PlainDialect
from .protocol import Dialect
from .reflection import ReflectionDialect
from .unicot import UniCoTDialect

AUTO = "auto"
# The dialects that need no file.
READY: dict[str, Dialect] = {"plain": PLAIN, "paper": PAPER, "miniature": MINIATURE}
BUILT_IN: dict[str, type[Any]] = {
    "plain": PlainDialect,
    "paper": PaperDialect,
    "miniature": MiniatureDialect,
    "reflection": ReflectionDialect,
    "uni-cot": UniCoTDialect,
}
# Fields that a file may not set: they are code, or say which code it is.
_FIXED = ("name", "view", "answers", "describes")
# Names that templates may hold in braces.
_PLACEHOLDERS = ("prompt", "steps", "instruction")
# Texts that are said as they are.
_LITERAL = ("system_prompt", "request_detail", "correct_start")
LONGEST_TEXT = 20_000


@dataclass(frozen=True)
class _Needed:
    """A file that a built-in dialect needs, and where it is to be had."""

    file: str
    source: str


NEEDED = {
    "reflection": _Needed(
        "controller_system_prompt.txt",
        "copy assets/prompts/controller_system_prompt.txt from github.com/waltstephen/UMM-Reflection",
    ),
    "uni-cot": _Needed(
        "uni-cot.json",
        'write {"based_on": "uni-cot", "system_prompt": …, "request_detail": …} with SYSTEM_PROMPT and enhance_prompt from '
        "inference_mdp_self_reflection.py in github.com/Fr0zenCrane/UniCoT",
    ),
}
# What folders or files of a model that was trained for a dialect are called, the first that matches.
_FOLDERS = (
    (re.compile(r"umm.?reflection", re.IGNORECASE), "reflection"),
    (re.compile(r"uni.?cot", re.IGNORECASE), "uni-cot"),
)


def guessed(marker: str | None, names: str) -> str:
    """The name of the dialect behind "auto": the ``marker`` of a checkpoint's config.json, else by the ``names`` of its
    folder and file, else plain."""
    return marker or next((name for pattern, name in _FOLDERS if pattern.search(names)), "plain")


def names(places: Sequence[Path]) -> list[str]:
    """All dialects there are: the built-in ones, and one for each .json file in ``places``."""
    return [name for name in dict.fromkeys([*BUILT_IN, *(path.stem for path in _files(places))]) if name != AUTO]


def _files(places: Sequence[Path]) -> list[Path]:
    """All .json files directly in ``places``, in their order."""
    return [path for place in places if place.is_dir() for path in sorted(place.glob("*.json"))]


def find_dialect(name: str, places: Sequence[Path], own: Path | None = None) -> Dialect:
    """The dialect called ``name``, its files looked for in ``own``, the model's folder, and in ``places``, folders of
    dialects.

    Raises StrokesError for an unknown one, for a file that is not there, and for one that is no dialect.
    """
    mine = next((path for path in _files(places) if path.stem == name), None)
    if mine and (name in READY or name == "reflection"):
        raise StrokesError(f"{mine}: {name} is a built-in dialect: give the file another name")
    if name in READY:
        return READY[name]
    everywhere = [*([own] if own else []), *places]
    if name == "reflection":
        path = next((p for place in everywhere if (p := place / NEEDED[name].file).exists()), None)
        if path is None:
            raise _missing(name, everywhere[0])
        return ReflectionDialect(system_prompt=_read_text(path))
    # Files of a model's folder are configurations, of which only the needed one is a dialect.
    candidates = everywhere if name in NEEDED else places
    # Looked for among the files there are: a name from outside is no path.
    path = next((path for path in _files(candidates) if path.stem == name), None)
    if path is not None:
        return read_dialect(path)
    if name in NEEDED:
        raise _missing(name, everywhere[0])
    raise StrokesError(f"unknown dialect {name[:100]!r}; known are {', '.join(names(places))}")


def _missing(name: str, folder: Path) -> StrokesError:
    """The error for a built-in dialect whose file is in no place; ``folder`` is where to put it."""
    return StrokesError(f"the dialect {name} needs {NEEDED[name].file} in {folder}: {NEEDED[name].source}")


def read_dialect(path: Path) -> Dialect:
    """The dialect of a file. Raises StrokesError that names the file, the key, and what was expected."""
    try:
        found = load_json(path)
    except (OSError, ValueError) as error:
        raise StrokesError(f"{path}: the dialect cannot be read ({error})") from None
    if not isinstance(found, dict) or not isinstance(found.get("based_on"), str) or found["based_on"] not in BUILT_IN:
        raise StrokesError(f'{path}: "based_on" should be one of {", ".join(BUILT_IN)}')
    kind = BUILT_IN[found.pop("based_on")]
    known = {f.name: f for f in fields(kind) if f.name not in _FIXED}
    if strange := sorted(set(found) - set(known)):
        raise StrokesError(f"{path}: unknown key {strange[0]!r}; a dialect like this has {', '.join(known)}")
    for name, value in found.items():
        if problem := _problem(name, value, str(known[name].type)):
            raise StrokesError(f"{path}: {name!r} should be {problem}")
    try:
        return kind(**{"name": path.stem, **found})
    except TypeError:
        missing = [n for n in ("system_prompt", "request_detail") if n in known and n not in found]
        raise StrokesError(f"{path}: {missing[0]!r} is missing: a text") from None


def _problem(name: str, value: Any, annotation: str) -> str:
    """What a value of a dialect file should be; empty where it is that."""
    if annotation == "float":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if number and -50 <= value <= 50 else "a number from -50 to 50"
    if annotation == "str":
        if not isinstance(value, str) or not 0 < len(value.strip()) <= len(value) <= LONGEST_TEXT:
            return f"a text of 1 to {LONGEST_TEXT:,} characters"
        if name in _LITERAL:
            return ""
        try:
            braces = [part[1:] for part in string.Formatter().parse(value) if part[1] is not None]
        except ValueError:
            braces = [("{", None, None)]
        strange = any(name not in _PLACEHOLDERS or form or conversion for name, form, conversion in braces)
        return (
            f"a text in which only {', '.join(f'{{{each}}}' for each in _PLACEHOLDERS)} stand in braces"
            if strange
            else ""
        )
    if name == "forms":
        forms = ("latents+pixels", "pixels")
        right = isinstance(value, dict) and set(value) == set(PLAIN.forms) and all(v in forms for v in value.values())
        return "" if right else f"an object of {', '.join(PLAIN.forms)}, each {' or '.join(forms)}"
    return "" if isinstance(value, dict) else "an object like the key strokes of config.json"


def _read_text(path: Path) -> str:
    """A text file without the line ends behind it. Raises StrokesError where it is none, empty or too long."""
    try:
        check_regular(path)
        text = path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StrokesError(f"{path} cannot be read ({error})") from None
    if not 0 < len(text.strip()) <= LONGEST_TEXT:
        raise StrokesError(f"{path} should hold a text of 1 to {LONGEST_TEXT:,} characters")
    return text

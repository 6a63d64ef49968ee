"""What a scenario yields: names and values, with two kinds of value that are compared in a way of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Skipped:
    """A value that cannot be computed from what the set holds."""

    why: str


@dataclass(frozen=True)
class Scaled:
    """A number whose error is relative to ``scale`` and not to itself."""

    value: float
    scale: float


# Names and values.
Produced = Iterator[tuple[str, Any]]

"""What a scenario yields: pairs of name and value. A value is a tensor, a value of JSON, or one of the types here."""

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


Produced = Iterator[tuple[str, Any]]

"""Segments, prefixes, and running one segment behind a prefix.

A prefix is a tuple of segments; the keys and values behind it are blocks, one a segment, written once and never changed.
Attention reads a prefix as the list of its blocks, so branches share what they have in common and a shorter prefix is
the same blocks, fewer of them. Axes as in :mod:`.decoder`; L layers, P prefix rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

Kind = Literal["text", "latents", "pixels"]


@dataclass(frozen=True, eq=False)
class Segment:
    """One unit of prefill: token ids, clean latents ``[C, h, w]`` or pixels ``[3, H, W]`` in −1…1."""

    kind: Kind
    content: tuple[int, ...] | Tensor

    @cached_property
    def digest(self) -> bytes:
        if isinstance(self.content, Tensor):
            data = self.content.detach().cpu().float().contiguous()
            head = f"{self.kind}{tuple(data.shape)}".encode()
            return hashlib.sha256(head + data.numpy().tobytes()).digest()
        return hashlib.sha256(f"{self.kind}{self.content}".encode()).digest()

    @property
    def positions(self) -> int:
        """Rope positions the segment consumes: one a row of text with its two markers, one in all for an image."""
        return len(self.content) + 2 if self.kind == "text" else 1


@dataclass(frozen=True, eq=False)
class Prefix:
    """What came before: segments in order. ``key`` names the content of the whole chain."""

    segments: tuple[Segment, ...] = ()

    def append(self, segment: Segment) -> Prefix:
        return Prefix((*self.segments, segment))

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """One chained digest a segment: each covers everything before it."""
        out, last = [], b""
        for segment in self.segments:
            last = hashlib.sha256(last + segment.digest).digest()
            out.append(last)
        return tuple(out)

    @property
    def key(self) -> bytes:
        return self.keys[-1] if self.segments else b""

    @property
    def position(self) -> int:
        """The next rope position."""
        return sum(segment.positions for segment in self.segments)


@dataclass(frozen=True, eq=False)
class Block:
    """Keys (normed and rotated) and values ``[L, K, n, d]`` of one segment."""

    keys: Tensor
    values: Tensor

    @property
    def rows(self) -> int:
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

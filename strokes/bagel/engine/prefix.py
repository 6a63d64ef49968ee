"""Segments, prefixes, and the blocks of keys and values that the network computes for them.

A prefix is a tuple of segments. Each of its segments has one block, which never changes once it is made. Attention
reads a prefix as the list of its blocks. Prefixes that begin with the same segments share their blocks.
Axes as in :mod:`..network.decoder`; L layers, n rows of a segment.
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
    """One unit of prefill: token ids without markers, clean latents ``[C, h, w]``, or pixels ``[3, H, W]`` in −1…1."""

    kind: Kind
    content: tuple[int, ...] | Tensor

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of kind, shape and content."""
        if isinstance(self.content, Tensor):
            data = self.content.detach().cpu().float().contiguous()
            head = f"{self.kind}{tuple(data.shape)}".encode()
            return hashlib.sha256(head + data.numpy().tobytes()).digest()
        return hashlib.sha256(f"{self.kind}{self.content}".encode()).digest()

    @property
    def positions(self) -> int:
        """Rope positions that it consumes: one for each row of a text, markers included; one in all for an image."""
        return len(self.content) + 2 if self.kind == "text" else 1


@dataclass(frozen=True, eq=False)
class Prefix:
    """The segments read so far, in order; a value, for which nothing has been computed yet."""

    segments: tuple[Segment, ...] = ()

    def append(self, segment: Segment) -> Prefix:
        """This prefix with one segment more."""
        return Prefix((*self.segments, segment))

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """One digest a segment, which covers the segments before it too."""
        out, last = [], b""
        for segment in self.segments:
            last = hashlib.sha256(last + segment.digest).digest()
            out.append(last)
        return tuple(out)

    @property
    def key(self) -> bytes:
        """The digest of all segments; empty where there is none."""
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

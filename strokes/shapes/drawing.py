"""Drawing: palette, outlines and the batched renderer of the shapes world, shared by prompts, layouts and the checker.

Lengths are pixels of a 64×64 canvas; other square canvases scale them. Tensor functions run on the device of their
tensors, so that training renders on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

UNIT = 64
GROUND = (245, 242, 235)
PALETTE = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (50, 80, 220),
    "yellow": (240, 205, 40),
    "purple": (150, 60, 190),
    "orange": (245, 135, 30),
    "black": (30, 30, 30),
    "cyan": (50, 200, 215),
}
COLOURS = tuple(PALETTE)
KINDS = ("circle", "square", "triangle", "diamond", "cross")
RADIUS = (7.5, 10.0)
GAP = 3.0
SUPERSAMPLING = 4
# Reach of each kind from its centre in radii: left/right, up, down, and the farthest point.
EXTENT = {
    "circle": (1.0, 1.0, 1.0, 1.0),
    "square": (0.88, 0.88, 0.88, 0.88 * 2**0.5),
    "triangle": (1.0, 1.0, 0.85, (1 + 0.85**2) ** 0.5),
    "diamond": (0.85, 1.15, 1.15, 1.15),
    "cross": (1.0, 1.0, 1.0, (1 + 0.35**2) ** 0.5),
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A shape in a scene: colour, kind, centre (``x``, ``y``) with y downwards, radius ``r``."""

    colour: str
    kind: str
    x: float = 0.0
    y: float = 0.0
    r: float = 8.0

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"

    @property
    def centre(self) -> tuple[float, float]:
        return self.x, self.y

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        side, up, down, _ = EXTENT[self.kind]
        return self.x - side * self.r, self.y - up * self.r, self.x + side * self.r, self.y + down * self.r

    def at(self, x: float, y: float) -> Shape:
        return replace(self, x=x, y=y)


Scene = list[Shape]


def apart(a: Shape, b: Shape, gap: float = GAP) -> bool:
    """Whether the boxes or the circumscribed circles of two shapes are at least ``gap`` apart: sufficient, not necessary, for
    the shapes to be."""
    (al, at, ar, ab), (bl, bt, br, bb) = a.box, b.box
    if max(bl - ar, al - br, bt - ab, at - bb) >= gap:
        return True
    distance = ((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5
    return distance - EXTENT[a.kind][3] * a.r - EXTENT[b.kind][3] * b.r >= gap


def inside_canvas(shape: Shape) -> bool:
    left, top, right, bottom = shape.box
    return left >= 0 and top >= 0 and right <= UNIT and bottom <= UNIT


def inside(kind: str, dx: Any, dy: Any, r: Any) -> Any:
    """Whether offsets (``dx``, ``dy``) from the centre lie inside a shape of radius ``r``: booleans, in the broadcast shape
    of the three. They are all torch tensors or all numpy arrays, hence ``Any``."""
    ax, ay = abs(dx), abs(dy)
    if kind == "circle":
        return dx * dx + dy * dy <= r * r
    if kind == "square":
        return (ax <= 0.88 * r) & (ay <= 0.88 * r)
    if kind == "triangle":
        return (dy >= -r) & (dy <= 0.85 * r) & (ax * 1.85 <= dy + r)
    if kind == "diamond":
        return ax / 0.85 + ay / 1.15 <= r
    return ((ax <= 0.35 * r) | (ay <= 0.35 * r)) & (ax <= r) & (ay <= r)


def coverage(kind: str, x: Tensor, y: Tensor, r: Tensor, left: Tensor, top: Tensor, window: int) -> Tensor:
    """Coverage ``[M, window, window]`` in 0…1 (antialiased) of M shapes of one kind, each in its window of ``window`` pixels
    at integer (``left``, ``top``); ``x``, ``y``, ``r``, ``left`` and ``top`` are ``[M]``, in pixels of the canvas drawn."""
    step = (torch.arange(window * SUPERSAMPLING, device=x.device) + 0.5) / SUPERSAMPLING
    dx = (left[:, None] + step - x[:, None])[:, None, :]
    dy = (top[:, None] + step - y[:, None])[:, :, None]
    hit = inside(kind, dx, dy, r[:, None, None]).float()
    return hit.unflatten(2, (window, SUPERSAMPLING)).unflatten(1, (window, SUPERSAMPLING)).mean((2, 4))


def table(scenes: Sequence[Sequence[Shape]]) -> Tensor:
    """Scenes as a float tensor ``[B, shapes, 5]``: kind (from 1; 0 = no shape), colour, x, y, r."""
    most = max((len(scene) for scene in scenes), default=0)
    rows = torch.zeros(len(scenes), most, 5)
    for i, scene in enumerate(scenes):
        for j, s in enumerate(scene):
            rows[i, j] = torch.tensor((KINDS.index(s.kind) + 1, COLOURS.index(s.colour), s.x, s.y, s.r))
    return rows


def render(scenes: Sequence[Sequence[Shape]] | Tensor, size: int = UNIT) -> Tensor:
    """Pictures ``[B, 3, size, size]`` in 0…1, one a scene, on the device of their :func:`table`. Later shapes cover earlier
    ones."""
    rows = scenes if isinstance(scenes, Tensor) else table(scenes)
    device, scale = rows.device, size / UNIT
    window = int(2 * 1.3 * RADIUS[1] * scale) + 3
    ground = torch.tensor(GROUND, device=device, dtype=torch.float32) / 255
    palette = torch.tensor(list(PALETTE.values()), device=device, dtype=torch.float32) / 255
    side = size + 2 * window
    canvas = ground[None, None, None].repeat(len(rows), side, side, 1)
    span = torch.arange(window, device=device)
    for layer in rows.unbind(1):
        for number, kind in enumerate(KINDS, 1):
            owners = (layer[:, 0] == number).nonzero()[:, 0]
            if not len(owners):
                continue
            _, colour, x, y, r = layer[owners].unbind(1)
            x, y, r = x * scale, y * scale, r * scale
            left, top = (x - window / 2).floor(), (y - window / 2).floor()
            alpha = coverage(kind, x, y, r, left, top, window)[..., None]
            row = (top.long() + window)[:, None, None] + span[None, :, None]
            column = (left.long() + window)[:, None, None] + span[None, None, :]
            where = (owners[:, None, None], row, column)
            canvas[where] = canvas[where] * (1 - alpha) + palette[colour.long()][:, None, None, :] * alpha
    return canvas[:, window:-window, window:-window].permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Detection:
    """A shape read from a picture; not ``clear`` where its outline is lost, or merged with another's."""

    shape: Shape
    clear: bool = True


def detections(scene: Sequence[Shape]) -> list[Detection]:
    """What a perfect reading of a rendered scene returns: every shape, clear."""
    return [Detection(shape) for shape in scene]

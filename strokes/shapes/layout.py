"""Layouts: places and sizes of shapes that satisfy a scene graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .drawing import EXTENT, GAP, RADIUS, UNIT, Shape
from .scene_graph import MIN_OFFSET, SceneGraph

# Coordinates of a 3×3 grid, and the most by which a shape is off its grid point. Prompts ask for sides only; with free
# places a small model would spend its training on coordinates.
PLACES = (10.5, 32.0, 53.5)
OFF_PLACE = 1.5


def sample_layout(
    graph: SceneGraph, rng: np.random.Generator, fixed: Sequence[Shape] = (), candidates: int = 256
) -> list[Shape] | None:
    """One shape for each object: inside the canvas, more than ``GAP`` apart, every relation held with some margin. They lie
    near the points of a grid, or anywhere if no candidate on the grid fits. None where neither fits.

    ``fixed`` are the shapes of the first objects, which stay. Each of the two tries draws ``candidates`` layouts.
    """
    return _layout(graph, rng, fixed, candidates, grid=True) or _layout(graph, rng, fixed, candidates, grid=False)


def _layout(
    graph: SceneGraph, rng: np.random.Generator, fixed: Sequence[Shape], candidates: int, grid: bool
) -> list[Shape] | None:
    n, k = len(graph.objects), len(fixed)
    extent = np.array([EXTENT[o.kind] for o in graph.objects])
    top = RADIUS[1] if n < 4 else 0.5 * (RADIUS[0] + RADIUS[1])
    r = rng.uniform(RADIUS[0], top, (candidates, n))
    side, up, down, reach = (extent[:, i] for i in range(4))
    if grid:
        places = rng.permuted(np.tile(np.arange(9), (candidates, 1)), axis=1)[:, :n]
        x, y = (np.array(PLACES)[p] + rng.uniform(-OFF_PLACE, OFF_PLACE, p.shape) for p in np.divmod(places, 3))
        x = np.clip(x, side * r + 0.5, UNIT - side * r - 0.5)
        y = np.clip(y, up * r + 0.5, UNIT - down * r - 0.5)
    else:
        x = rng.uniform(side * r + 0.5, UNIT - side * r - 0.5)
        y = rng.uniform(up * r + 0.5, UNIT - down * r - 0.5)
    for i, shape in enumerate(fixed):
        x[:, i], y[:, i], r[:, i] = shape.x, shape.y, shape.r
    good = np.ones(candidates, bool)
    gap = GAP + 0.5
    for j in range(k, n):
        for i in range(j):
            dx, dy = x[:, j] - x[:, i], y[:, j] - y[:, i]
            boxes = np.maximum(
                np.abs(dx) - side[i] * r[:, i] - side[j] * r[:, j],
                np.where(dy > 0, dy - down[i] * r[:, i] - up[j] * r[:, j], -dy - up[i] * r[:, i] - down[j] * r[:, j]),
            )
            circles = np.hypot(dx, dy) - reach[i] * r[:, i] - reach[j] * r[:, j]
            good &= np.maximum(boxes, circles) >= gap
    for rel in graph.relations:
        if rel.subject < k and rel.object < k:
            continue
        dx, dy = x[:, rel.object] - x[:, rel.subject], y[:, rel.object] - y[:, rel.subject]
        along, across = (dx, dy) if rel.name in ("left of", "right of") else (dy, dx)
        along = along if rel.name in ("left of", "above") else -along
        good &= (along >= MIN_OFFSET + 2) & (along >= 1.15 * np.abs(across))
    found = np.flatnonzero(good)
    if not len(found):
        return None
    c = found[0]
    return [
        fixed[i] if i < k else Shape(colour=o.colour, kind=o.kind, x=float(x[c, i]), y=float(y[c, i]), r=float(r[c, i]))
        for i, o in enumerate(graph.objects)
    ]

"""Reads a picture of the shapes world by rules alone and says whether it satisfies a scene graph. Never sees a model.

Every picture is first brought to 64×64, so all lengths and areas here are pixels of that canvas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from PIL import Image

from ..errors import StrokesError
from .drawing import GROUND, KINDS, PALETTE, RADIUS, UNIT, Detection, Shape, inside
from .language import article
from .scene_graph import Object, Relation, SceneGraph, holds

MIN_AREA = 60
# Ground-truth shapes overlap their best outline by .87 or more, also blurred and noisy; most that ran together, by less.
MIN_OVERLAP = 0.86
_NAMES = ("", *PALETTE)
_COLOURS = np.array((GROUND, *PALETTE.values()), np.float32)
_FACTORS = np.array([0.94, 0.97, 1.0, 1.03, 1.06], np.float32)[:, None, None]


@dataclass(frozen=True)
class Found:
    """A component of one colour: its likeliest kind, its centre, its area in pixels of a 64×64 canvas, and how far
    (intersection over union, 0 to 1) it overlaps the best outline of that kind."""

    colour: str
    kind: str
    x: float
    y: float
    area: float
    overlap: float

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"

    @property
    def clear(self) -> bool:
        return self.overlap >= MIN_OVERLAP


@dataclass(frozen=True)
class CheckResult:
    """``reasons`` says in sentences what is wrong; empty where the picture satisfies the graph."""

    ok: bool
    reasons: tuple[str, ...] = ()


def _moments(kind: str) -> tuple[float, float]:
    """Area of a kind at radius 1, and how far its centroid lies below its centre."""
    step = (np.arange(481, dtype=np.float32) - 240) * np.float32(0.005)
    hit = inside(kind, step[None, :], step[:, None], 1.0)
    return float(hit.sum()) * 0.005**2, float((hit * step[:, None]).sum() / hit.sum())


_MOMENTS = {kind: _moments(kind) for kind in KINDS}


def read_picture(image: Image.Image) -> list[Found]:
    """Every coloured component of at least 60 pixels at 64×64, largest first; patches of several colours that come to as
    much together are something of the commonest of them, and not clear. Raises StrokesError unless square."""
    if image.width != image.height:
        raise StrokesError(f"the picture is {image.width}×{image.height}: the shapes world is square")
    image = image.convert("RGB")
    if image.width != UNIT:
        method = Image.Resampling.BOX if image.width > UNIT else Image.Resampling.BILINEAR
        image = image.resize((UNIT, UNIT), method)
    labels = nearest_colours(np.asarray(image, np.float32))
    parts = components(labels)
    found, rest = [], labels > 0
    for mask in _large(parts):
        if colour := _NAMES[labels[mask][0]]:
            found.append(_identify(colour, mask))
            rest &= ~mask
    if rest.sum() >= MIN_AREA:
        for mask in _large(components(rest)):
            if rest[mask].all():
                colour = _NAMES[np.bincount(labels[mask]).argmax()]
                found.append(replace(_identify(colour, mask), overlap=0.0))
    return sorted(found, key=lambda f: -f.area)


def _large(parts: np.ndarray) -> list[np.ndarray]:
    """Masks of the components of at least 60 pixels."""
    return [parts == part for part in np.flatnonzero(np.bincount(parts.ravel()) >= MIN_AREA)]


def detect(image: Image.Image) -> list[Detection]:
    """What an expert sees in a picture: its shapes, with the radius that their area says, as far as the world has it."""
    seen = []
    for f in read_picture(image):
        r = min(max((f.area / _MOMENTS[f.kind][0]) ** 0.5, RADIUS[0]), RADIUS[1])
        seen.append(Detection(Shape(f.colour, f.kind, f.x, f.y, r), f.clear))
    return seen


def nearest_colours(pixels: np.ndarray) -> np.ndarray:
    """Indexes ``[H, W]`` into (ground, palette) of pixels ``[H, W, 3]`` in 0…255.

    Antialiased edges pass through third colours. So only what fills a 2×2 block of one colour counts as a colour of its
    own; every other pixel takes the nearest of the colours within two pixels.
    """
    # Squared distances, less what is the same for every colour.
    distance = (_COLOURS**2).sum(1)[:, None, None] - 2 * np.tensordot(_COLOURS, pixels, (1, 2))
    nearest = distance.argmin(0)
    down, right = nearest[1:] == nearest[:-1], nearest[:, 1:] == nearest[:, :-1]
    block = down[:, 1:] & down[:, :-1] & right[1:]
    solid = np.zeros(nearest.shape, bool)
    for rows in (slice(1, None), slice(None, -1)):
        for columns in (slice(1, None), slice(None, -1)):
            solid[rows, columns] |= block
    known = np.pad((nearest == np.arange(len(_COLOURS))[:, None, None]) & solid, ((0, 0), (2, 2), (2, 2)))
    known = known[:, :-4] | known[:, 1:-3] | known[:, 2:-2] | known[:, 3:-1] | known[:, 4:]
    near = known[..., :-4] | known[..., 1:-3] | known[..., 2:-2] | known[..., 3:-1] | known[..., 4:]
    return np.where(solid, nearest, np.where(near, distance, np.inf).argmin(0))


def components(labels: np.ndarray) -> np.ndarray:
    """Number every pixel of ``[H, W]`` by its connected component (four neighbours, equal labels)."""
    starts = np.ones(labels.shape, bool)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = starts.ravel().cumsum().reshape(labels.shape) - 1
    count = int(run[-1, -1]) + 1
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    touching = labels[1:] == labels[:-1]
    for pair in np.unique(run[:-1][touching] * count + run[1:][touching]).tolist():
        parent[root(pair // count)] = root(pair % count)
    return np.array([root(i) for i in range(count)])[run]


def _identify(colour: str, mask: np.ndarray) -> Found:
    """Compare a mask with the outline of every kind, of about its area and with its centroid."""
    rows, columns = np.nonzero(mask)
    area, x, y = len(rows), float(columns.mean()) + 0.5, float(rows.mean()) + 0.5
    # Outlines of other kinds reach farther than the mask; they must not be cut off.
    margin = int(0.4 * area**0.5) + 2
    top, left = rows.min() - margin, columns.min() - margin
    height, width = int(rows.max() - top) + margin + 1, int(columns.max() - left) + margin + 1
    # Two sums over an outline: all of it, and what it shares with the mask.
    sums = np.ones((height * width, 2), np.float32)
    sums[:, 1] = 0
    sums[(rows - top) * width + columns - left, 1] = 1
    dx = (np.arange(width) + (left + 0.5 - x)).astype(np.float32)[None, None, :]
    dy = (np.arange(height) + (top + 0.5 - y)).astype(np.float32)[None, :, None]
    best = Found(colour, "", x, y, area, -1.0)
    for kind, (unit_area, drop) in _MOMENTS.items():
        r = np.float32((area / unit_area) ** 0.5) * _FACTORS
        outlines = inside(kind, dx, dy + np.float32(drop) * r, r).reshape(len(r), -1).astype(np.float32)
        outline, common = (outlines @ sums).T
        overlaps = common / (outline + area - common)
        at = int(overlaps.argmax())
        if overlaps[at] > best.overlap:
            best = Found(colour, kind, x, y - drop * float(r[at, 0, 0]), area, float(overlaps[at]))
    return best


def check(image: Image.Image, graph: SceneGraph) -> CheckResult:
    """Whether a picture holds exactly the objects of a graph, each clear, and every relation.

    Where objects are alike, any assignment that satisfies all relations counts. Raises StrokesError unless square.
    """
    found = read_picture(image)
    reasons = [f"something {f.colour} at ({f.x:.0f}, {f.y:.0f}) is no clear shape" for f in found if not f.clear]
    wanted, seen = Counter(o.name for o in graph.objects), Counter(f.name for f in found)
    reasons += [f"{article(name)} is missing" for name in (wanted - seen).elements()]
    reasons += [f"{article(name)} is too many" for name in (seen - wanted).elements()]
    if not reasons and graph.relations:
        broken = min((_broken(graph, given) for given in _assignments(graph.objects, found)), key=len)
        for r in broken:
            reasons.append(f"the {graph.objects[r.subject].name} is not {r.name} the {graph.objects[r.object].name}")
    return CheckResult(not reasons, tuple(reasons))


def _assignments(objects: Sequence[Object], found: Sequence[Found]) -> Iterator[tuple[Found, ...]]:
    for given in permutations(found):
        if all(f.name == o.name for f, o in zip(given, objects, strict=True)):
            yield given


def _broken(graph: SceneGraph, given: tuple[Found, ...]) -> list[Relation]:
    at = [(f.x, f.y) for f in given]
    return [r for r in graph.relations if not holds(r.name, at[r.subject], at[r.object])]

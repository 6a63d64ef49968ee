"""The rule-based checker: reads the shapes in a picture and decides whether they satisfy a scene graph.

Every picture is first resized to 64×64; all lengths and areas here are pixels of that canvas.
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
# Rendered shapes overlap their best outline by 0.87 or more, also blurred and noisy; most of those that touch, by less.
MIN_OVERLAP = 0.86
_NAMES = ("", *PALETTE)
_COLOURS = np.array((GROUND, *PALETTE.values()), np.float32)
_FACTORS = np.array([0.94, 0.97, 1.0, 1.03, 1.06], np.float32)[:, None, None]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A connected component of one colour: its likeliest kind, its centre, its area, and its overlap (intersection over
    union, 0 to 1) with the best outline of that kind."""

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
    """The answer of :func:`check`; ``reasons`` are sentences on what is wrong, none where the picture is right."""

    ok: bool
    reasons: tuple[str, ...] = ()


def _moments(kind: str) -> tuple[float, float]:
    """Area of a kind at radius 1, and how far its centroid lies below its centre."""
    step = (np.arange(481, dtype=np.float32) - 240) * np.float32(0.005)
    hit = inside(kind, step[None, :], step[:, None], 1.0)
    return float(hit.sum()) * 0.005**2, float((hit * step[:, None]).sum() / hit.sum())


_MOMENTS = {kind: _moments(kind) for kind in KINDS}


def read_picture(image: Image.Image) -> list[Found]:
    """All coloured components of at least 60 pixels, largest first. Raises StrokesError unless the picture is square.

    Smaller patches that touch and come to 60 pixels together are one component of their commonest colour, not clear.
    """
    if image.width != image.height:
        raise StrokesError(f"the picture is {image.width}×{image.height}: the shapes world is square")
    image = image.convert("RGB")
    if image.width != UNIT:
        method = Image.Resampling.BOX if image.width > UNIT else Image.Resampling.BILINEAR
        image = image.resize((UNIT, UNIT), method)
    labels = nearest_colours(np.asarray(image, np.float32))
    found, rest = [], labels > 0
    for mask in _large(components(labels)):
        if colour := _NAMES[labels[mask][0]]:
            found.append(_identify(colour, mask))
            rest &= ~mask
    if rest.sum() >= MIN_AREA:
        for mask in _large(components(rest)):
            if rest[mask].all():
                colour = _NAMES[np.bincount(labels[mask]).argmax()]
                found.append(replace(_identify(colour, mask), overlap=0.0))
    return sorted(found, key=lambda f: -f.area)


def _large(numbered: np.ndarray) -> list[np.ndarray]:
    """Masks ``[H, W]`` of the components of at least 60 pixels; ``numbered`` as :func:`components` returns it."""
    return [numbered == number for number in np.flatnonzero(np.bincount(numbered.ravel()) >= MIN_AREA)]


def detect(image: Image.Image) -> list[Detection]:
    """The shapes in a picture, largest first, each with the radius that its area implies, clamped to ``RADIUS``. Raises
    StrokesError unless the picture is square."""
    found = []
    for f in read_picture(image):
        r = min(max((f.area / _MOMENTS[f.kind][0]) ** 0.5, RADIUS[0]), RADIUS[1])
        found.append(Detection(Shape(colour=f.colour, kind=f.kind, x=f.x, y=f.y, r=r), f.clear))
    return found


def nearest_colours(pixels: np.ndarray) -> np.ndarray:
    """The nearest colour of each pixel: indexes ``[H, W]`` into (ground, palette) of pixels ``[H, W, 3]`` in 0…255.

    The blend of two colours at an antialiased edge may be nearest to a third. So only 2×2 blocks of one nearest colour
    keep it; every other pixel takes the nearest among the colours of such blocks within two pixels.
    """
    # Squared distances, less the pixel's own square, which is the same for every colour.
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
    """The kind whose outline, with the mask's centroid and about its area, overlaps the mask best."""
    rows, columns = np.nonzero(mask)
    area, x, y = len(rows), float(columns.mean()) + 0.5, float(rows.mean()) + 0.5
    # Outlines of other kinds reach farther than the mask, and must fit into the window.
    margin = int(0.4 * area**0.5) + 2
    top, left = rows.min() - margin, columns.min() - margin
    height, width = int(rows.max() - top) + margin + 1, int(columns.max() - left) + margin + 1
    # Two sums over an outline: all of it, and what it shares with the mask.
    sums = np.ones((height * width, 2), np.float32)
    sums[:, 1] = 0
    sums[(rows - top) * width + columns - left, 1] = 1
    dx = (np.arange(width) + (left + 0.5 - x)).astype(np.float32)[None, None, :]
    dy = (np.arange(height) + (top + 0.5 - y)).astype(np.float32)[None, :, None]
    best = Found(colour=colour, kind="", x=x, y=y, area=area, overlap=-1.0)
    for kind, (unit_area, drop) in _MOMENTS.items():
        r = np.float32((area / unit_area) ** 0.5) * _FACTORS
        outlines = inside(kind, dx, dy + np.float32(drop) * r, r).reshape(len(r), -1).astype(np.float32)
        outline, common = (outlines @ sums).T
        overlaps = common / (outline + area - common)
        at = int(overlaps.argmax())
        if overlaps[at] > best.overlap:
            y_centre = y - drop * float(r[at, 0, 0])
            best = Found(colour=colour, kind=kind, x=x, y=y_centre, area=area, overlap=float(overlaps[at]))
    return best


def check(image: Image.Image, graph: SceneGraph) -> CheckResult:
    """Whether a picture shows exactly the objects of a graph, each clear, and every relation holds. Raises StrokesError
    unless the picture is square.

    The benchmark's exact match. It shares the reading of the picture with :func:`strokes.shapes.compare.compare`, but
    not the decision: it counts names and tries every assignment, while the critic, which wrote the training data and
    judges rounds, matches greedily. So a fault in the critic's matching cannot raise the score. A test holds both
    to the same answer.
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
    """Every order of the components in which they have the names of the objects."""
    for given in permutations(found):
        if all(f.name == o.name for f, o in zip(given, objects, strict=True)):
            yield given


def _broken(graph: SceneGraph, given: tuple[Found, ...]) -> list[Relation]:
    """Relations that do not hold where ``given`` stand for the objects."""
    at = [(f.x, f.y) for f in given]
    return [r for r in graph.relations if not holds(r.name, at[r.subject], at[r.object])]
